// SPDX-License-Identifier: Apache-2.0
/* Inner loops for cores without DSP instructions.
 *
 * Armv6-M multiplies into one of its operands and has eight registers for that; sums can be in the others, to which
 * nothing but an addition is needed. Compilers move between the two instead. On Armv7-M they do not see that one pointer
 * reads both columns. */
#ifndef QUTE_PLAIN_BLOCKS_H
#define QUTE_PLAIN_BLOCKS_H

#include "qute_intrinsics.h"

/* GCC leaves the high registers alone where it optimises for size. */
#if defined(__GNUC__) && defined(__thumb__) && !QUTE_THUMB2 && !defined(__ARM_BIG_ENDIAN) && defined(__OPTIMIZE__) && \
    !defined(__OPTIMIZE_SIZE__)
#define QUTE_THUMB1_BLOCKS 1
#else
#define QUTE_THUMB1_BLOCKS 0
#endif

#if QUTE_THUMB2 && !QUTE_DSP && defined(__OPTIMIZE__)
#define QUTE_THUMB2_BLOCKS 1
#else
#define QUTE_THUMB2_BLOCKS 0
#endif

#if QUTE_THUMB2_BLOCKS

#define QUTE_FOUR_PRODUCTS                                                                                             \
    "ldrsb %[w0], [%[row0]], #1\n\t"                                                                                   \
    "ldrsh %[x0], [%[x]], #2\n\t"                                                                                      \
    "ldrsh %[x1], [%[x]], #2\n\t"                                                                                      \
    "ldrsb %[w1], [%[row1]], #1\n\t"                                                                                   \
    "mla %[s0], %[w0], %[x0], %[s0]\n\t"                                                                               \
    "mla %[s1], %[w0], %[x1], %[s1]\n\t"                                                                               \
    "mla %[s2], %[w1], %[x0], %[s2]\n\t"                                                                               \
    "mla %[s3], %[w1], %[x1], %[s3]\n\t"

#define QUTE_OPERANDS                                                                                                  \
    [row0] "+&r"(row0), [row1] "+&r"(row1), [x] "+&r"(columns), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2),        \
        [s3] "+&r"(s3), [w0] "=&r"(w0), [w1] "=&r"(w1), [x0] "=&r"(x0), [x1] "=&r"(x1)

/* Two channels, `pitch` bytes of weights apart, times `count` pairs of values of two columns. */
QUTE_INLINE void qute_plain_pair_s16(
    const int16_t *columns, const int8_t *row0, int32_t pitch, int32_t count, int32_t sums[4])
{
    const int8_t *row1 = row0 + pitch;
    const int16_t *const end = columns + 2 * count;
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    int32_t w0, w1, x0, x1;
    while (end - columns >= 8) {
        __asm__ volatile(QUTE_FOUR_PRODUCTS QUTE_FOUR_PRODUCTS QUTE_FOUR_PRODUCTS QUTE_FOUR_PRODUCTS
                         : QUTE_OPERANDS
                         :
                         : "memory");
    }
    while (columns != end) {
        __asm__ volatile(QUTE_FOUR_PRODUCTS : QUTE_OPERANDS : : "memory");
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_FOUR_PRODUCTS
#undef QUTE_OPERANDS

#endif

#if QUTE_THUMB1_BLOCKS

/* Two weights, `pitch` bytes apart, times values x0 and x1, which are lost. */
#define QUTE_FOUR_PRODUCTS                                                                                             \
    "ldrsb %[w], [%[weights], %[zero]]\n\t"                                                                            \
    "muls %[w], %[x0], %[w]\n\t"                                                                                       \
    "add %[s0], %[w]\n\t"                                                                                              \
    "ldrsb %[w], [%[weights], %[zero]]\n\t"                                                                            \
    "muls %[w], %[x1], %[w]\n\t"                                                                                       \
    "add %[s1], %[w]\n\t"                                                                                              \
    "ldrsb %[w], [%[weights], %[pitch]]\n\t"                                                                           \
    "muls %[x0], %[w], %[x0]\n\t"                                                                                      \
    "add %[s2], %[x0]\n\t"                                                                                             \
    "muls %[x1], %[w], %[x1]\n\t"                                                                                      \
    "add %[s3], %[x1]\n\t"                                                                                             \
    "adds %[weights], #1\n\t"

#define QUTE_COLUMN_PRODUCTS                                                                                           \
    "ldmia %[x]!, {%[x1]}\n\t"                                                                                         \
    "sxth %[x0], %[x1]\n\t"                                                                                            \
    "asrs %[x1], %[x1], #16\n\t" QUTE_FOUR_PRODUCTS

/* Two channels, `pitch` bytes of weights apart, times `count` > 0 pairs of values of two columns. */
QUTE_INLINE void qute_plain_pair_s16(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t count, int32_t sums[4])
{
    register int32_t s0 __asm__("r8") = sums[0];
    register int32_t s1 __asm__("r9") = sums[1];
    register int32_t s2 __asm__("r10") = sums[2];
    register int32_t s3 __asm__("r11") = sums[3];
    register const int16_t *end __asm__("r12") = columns + 2 * count;
    int32_t w, x0, x1;
    const int32_t zero = 0;
    if (count & 1) {
        __asm__ volatile(".syntax unified\n\t" QUTE_COLUMN_PRODUCTS
                         : [weights] "+&l"(weights), [x] "+&l"(columns), [s0] "+&h"(s0), [s1] "+&h"(s1),
                           [s2] "+&h"(s2), [s3] "+&h"(s3), [w] "=&l"(w), [x0] "=&l"(x0), [x1] "=&l"(x1)
                         : [zero] "l"(zero), [pitch] "l"(pitch)
                         : "memory", "cc");
    }
    if (count > 1) {
        __asm__ volatile(".syntax unified\n1:\n\t" QUTE_COLUMN_PRODUCTS QUTE_COLUMN_PRODUCTS "cmp %[x], %[end]\n\t"
                         "bne 1b\n\t"
                         : [weights] "+&l"(weights), [x] "+&l"(columns), [s0] "+&h"(s0), [s1] "+&h"(s1),
                           [s2] "+&h"(s2), [s3] "+&h"(s3), [w] "=&l"(w), [x0] "=&l"(x0), [x1] "=&l"(x1)
                         : [zero] "l"(zero), [pitch] "l"(pitch), [end] "h"(end)
                         : "memory", "cc");
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_COLUMN_PRODUCTS

/* The same for `count` > 0 bytes of two pixels, `pitch` apart as well, plus an offset. */
QUTE_INLINE void qute_plain_pair_s8(
    const int8_t *pixel, int32_t offset, const int8_t *weights, int32_t pitch, int32_t count, int32_t sums[4])
{
    register int32_t s0 __asm__("r8") = sums[0];
    register int32_t s1 __asm__("r9") = sums[1];
    register int32_t s2 __asm__("r10") = sums[2];
    register int32_t s3 __asm__("r11") = sums[3];
    register int32_t plus __asm__("r12") = offset;
    register const int8_t *end __asm__("lr") = pixel + count;
    int32_t w, x0, x1;
    const int32_t zero = 0;
    __asm__ volatile(".syntax unified\n1:\n\t"
                     "ldrsb %[x0], [%[x], %[zero]]\n\t"
                     "add %[x0], %[plus]\n\t"
                     "ldrsb %[x1], [%[x], %[pitch]]\n\t"
                     "add %[x1], %[plus]\n\t" QUTE_FOUR_PRODUCTS "adds %[x], #1\n\t"
                     "cmp %[x], %[end]\n\t"
                     "bne 1b\n\t"
                     : [weights] "+&l"(weights), [x] "+&l"(pixel), [s0] "+&h"(s0), [s1] "+&h"(s1), [s2] "+&h"(s2),
                       [s3] "+&h"(s3), [w] "=&l"(w), [x0] "=&l"(x0), [x1] "=&l"(x1)
                     : [zero] "l"(zero), [pitch] "l"(pitch), [plus] "h"(plus), [end] "h"(end)
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_FOUR_PRODUCTS

/* `depth` > 0 values plus an offset times three rows of weights. */
QUTE_INLINE void qute_plain_dot_s8(
    const int8_t *x, int32_t offset, const int8_t *weights, int32_t depth, int32_t sums[3])
{
    register int32_t s0 __asm__("r8") = sums[0];
    register int32_t s1 __asm__("r9") = sums[1];
    register int32_t s2 __asm__("r10") = sums[2];
    register int32_t plus __asm__("r11") = offset;
    register const int8_t *end __asm__("r12") = x + depth;
    int32_t w, value;
    const int32_t zero = 0;
    __asm__ volatile(".syntax unified\n1:\n\t"
                     "ldrsb %[value], [%[x], %[zero]]\n\t"
                     "add %[value], %[plus]\n\t"
                     "ldrsb %[w], [%[weights], %[zero]]\n\t"
                     "muls %[w], %[value], %[w]\n\t"
                     "add %[s0], %[w]\n\t"
                     "ldrsb %[w], [%[weights], %[one]]\n\t"
                     "muls %[w], %[value], %[w]\n\t"
                     "add %[s1], %[w]\n\t"
                     "ldrsb %[w], [%[weights], %[two]]\n\t"
                     "muls %[w], %[value], %[w]\n\t"
                     "add %[s2], %[w]\n\t"
                     "adds %[weights], #1\n\t"
                     "adds %[x], #1\n\t"
                     "cmp %[x], %[end]\n\t"
                     "bne 1b\n\t"
                     : [weights] "+&l"(weights), [x] "+&l"(x), [s0] "+&h"(s0), [s1] "+&h"(s1), [s2] "+&h"(s2),
                       [w] "=&l"(w), [value] "=&l"(value)
                     : [zero] "l"(zero), [one] "l"(depth), [two] "l"(2 * depth), [plus] "h"(plus), [end] "h"(end)
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
}

#endif

#endif
