// SPDX-License-Identifier: Apache-2.0
/* Register blocks of two channels by two columns, for the DSP path.
 *
 * In assembly because a block fills the register file, and compilers that schedule it themselves keep its
 * pointers on the stack. sums[c * 2 + p] belongs to channel c and column p. Without optimisation there are
 * not enough registers; QUTE_BLOCKS is 0 then and the callers take their C blocks.
 */
#ifndef QUTE_BLOCKS_H
#define QUTE_BLOCKS_H

#include "qute_intrinsics.h"

#if QUTE_DSP && defined(__OPTIMIZE__)
#define QUTE_BLOCKS 1
#else
#define QUTE_BLOCKS 0
#endif

#if QUTE_BLOCKS

/* Four weights of each of two channels times four int16 of each of two columns, which lie in the order
 * {column 0: values 0, 2}, {column 1: values 0, 2}, {column 0: values 1, 3}, {column 1: values 1, 3}. */
#define QUTE_GROUP_S16                                                                                                 \
    "ldr %[w0], [%[row0]], #4\n\t"                                                                                     \
    "ldr %[w1], [%[row1]], #4\n\t"                                                                                     \
    "ldrd %[x0], %[x1], [%[x]], #8\n\t"                                                                                \
    "sxtb16 %[even], %[w0]\n\t"                                                                                        \
    "smlad %[s0], %[even], %[x0], %[s0]\n\t"                                                                           \
    "smlad %[s1], %[even], %[x1], %[s1]\n\t"                                                                           \
    "sxtb16 %[even], %[w1]\n\t"                                                                                        \
    "smlad %[s2], %[even], %[x0], %[s2]\n\t"                                                                           \
    "smlad %[s3], %[even], %[x1], %[s3]\n\t"                                                                           \
    "ldrd %[x0], %[x1], [%[x]], #8\n\t"                                                                                \
    "sxtb16 %[w0], %[w0], ror #8\n\t"                                                                                  \
    "smlad %[s0], %[w0], %[x0], %[s0]\n\t"                                                                             \
    "smlad %[s1], %[w0], %[x1], %[s1]\n\t"                                                                             \
    "sxtb16 %[w1], %[w1], ror #8\n\t"                                                                                  \
    "smlad %[s2], %[w1], %[x0], %[s2]\n\t"                                                                             \
    "smlad %[s3], %[w1], %[x1], %[s3]\n\t"

/* `count` > 0 groups of four values; depth is the pitch of the weight rows, columns are aligned to 4. */
QUTE_INLINE void qute_block_s16(
    const int16_t *columns, const int8_t *weights, int32_t depth, int32_t count, int32_t sums[4])
{
    const int8_t *row0 = weights;
    const int8_t *row1 = weights + depth;
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    do {
        uint32_t w0;
        uint32_t w1;
        uint32_t x0;
        uint32_t x1;
        uint32_t even;
        __asm__ volatile(QUTE_GROUP_S16
                         : [row0] "+&r"(row0), [row1] "+&r"(row1), [x] "+&r"(columns), [s0] "+&r"(s0),
                           [s1] "+&r"(s1), [s2] "+&r"(s2), [s3] "+&r"(s3), [w0] "=&r"(w0), [w1] "=&r"(w1),
                           [x0] "=&r"(x0), [x1] "=&r"(x1), [even] "=&r"(even)
                         :
                         : "memory");
    } while (--count > 0);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* Four weights of each of two channels times four int8 of each of two pixels; `pitch` bytes from a channel to
 * the next and from a pixel to the next. */
#define QUTE_GROUP_S8                                                                                                  \
    "ldr %[w1], [%[row], %[pitch]]\n\t"                                                                                \
    "ldr %[w0], [%[row]], #4\n\t"                                                                                      \
    "sxtb16 %[even1], %[w1]\n\t"                                                                                       \
    "sxtb16 %[even0], %[w0]\n\t"                                                                                       \
    "sxtb16 %[w1], %[w1], ror #8\n\t"                                                                                  \
    "sxtb16 %[w0], %[w0], ror #8\n\t"                                                                                  \
    "ldr %[odd], [%[x], %[pitch]]\n\t"                                                                                 \
    "sxtb16 %[even], %[odd]\n\t"                                                                                       \
    "smlad %[s1], %[even0], %[even], %[s1]\n\t"                                                                        \
    "smlad %[s3], %[even1], %[even], %[s3]\n\t"                                                                        \
    "sxtb16 %[odd], %[odd], ror #8\n\t"                                                                                \
    "smlad %[s1], %[w0], %[odd], %[s1]\n\t"                                                                            \
    "smlad %[s3], %[w1], %[odd], %[s3]\n\t"                                                                            \
    "ldr %[odd], [%[x]], #4\n\t"                                                                                       \
    "sxtb16 %[even], %[odd]\n\t"                                                                                       \
    "smlad %[s0], %[even0], %[even], %[s0]\n\t"                                                                        \
    "smlad %[s2], %[even1], %[even], %[s2]\n\t"                                                                        \
    "sxtb16 %[odd], %[odd], ror #8\n\t"                                                                                \
    "smlad %[s0], %[w0], %[odd], %[s0]\n\t"                                                                            \
    "smlad %[s2], %[w1], %[odd], %[s2]\n\t"

/* `count` > 0 groups of eight values. Two groups of four in one statement, since the counter has no register. */
QUTE_INLINE void qute_block_s8(
    const int8_t *input, const int8_t *weights, int32_t pitch, int32_t count, int32_t sums[4])
{
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    do {
        uint32_t w0;
        uint32_t w1;
        uint32_t even0;
        uint32_t even1;
        uint32_t even;
        uint32_t odd;
        __asm__ volatile(QUTE_GROUP_S8 QUTE_GROUP_S8
                         : [row] "+&r"(weights), [x] "+&r"(input), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2),
                           [s3] "+&r"(s3), [w0] "=&r"(w0), [w1] "=&r"(w1), [even0] "=&r"(even0),
                           [even1] "=&r"(even1), [even] "=&r"(even), [odd] "=&r"(odd)
                         : [pitch] "r"(pitch)
                         : "memory");
    } while (--count > 0);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#endif

#endif
