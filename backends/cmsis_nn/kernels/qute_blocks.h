// SPDX-License-Identifier: Apache-2.0
/* Register blocks for the DSP path: inner loops that fill the register file.
 *
 * In assembly because compilers that schedule them themselves keep their pointers on the stack, and do not fold
 * rotations into SXTB16. sums[c * 2 + p] belongs to channel c and column p. Without optimisation there are
 * not enough registers; QUTE_BLOCKS is 0 then and the callers take their C blocks.
 */
#ifndef QUTE_BLOCKS_H
#define QUTE_BLOCKS_H

#include "qute_intrinsics.h"
#include "qute_unrolled.h"

#if QUTE_DSP && defined(__OPTIMIZE__)
#define QUTE_BLOCKS 1
#else
#define QUTE_BLOCKS 0
#endif

#if QUTE_BLOCKS

/* Four weights of each of two channels times a group of two columns (see qute_convolve.h): 15 instructions for 16
 * products. The columns are aligned to 4, which LDM needs; the weights need not be. */
#define QUTE_GROUP_S16                                                                                                 \
    "ldmia %[x]!, {%[x0], %[x1], %[x2], %[x3]}\n\t"                                                                    \
    "ldr %[w], [%[row0]], #4\n\t"                                                                                      \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s0], %[even], %[x0], %[s0]\n\t"                                                                           \
    "smlad %[s1], %[even], %[x1], %[s1]\n\t"                                                                           \
    "smlad %[s0], %[w], %[x2], %[s0]\n\t"                                                                              \
    "smlad %[s1], %[w], %[x3], %[s1]\n\t"                                                                              \
    "ldr %[w], [%[row1]], #4\n\t"                                                                                      \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s2], %[even], %[x0], %[s2]\n\t"                                                                           \
    "smlad %[s3], %[even], %[x1], %[s3]\n\t"                                                                           \
    "smlad %[s2], %[w], %[x2], %[s2]\n\t"                                                                              \
    "smlad %[s3], %[w], %[x3], %[s3]\n\t"

/* `groups` >= 0 groups of four values; `pitch` bytes from one channel's weights to the next.
 *
 * With its counter the loop takes all registers that there are, and compilers may keep r7 as a frame pointer. So the
 * counter is in r7, which is saved around the loops, and the other ones are named so that nothing else is in r7. */
QUTE_INLINE void qute_block_s16(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t groups, int32_t sums[4])
{
    register const int16_t *x __asm__("r0") = columns;
    register uint32_t w __asm__("r1") = (uint32_t)groups;
    register uint32_t x0 __asm__("r2");
    register uint32_t x1 __asm__("r3");
    register uint32_t x2 __asm__("r4");
    register uint32_t x3 __asm__("r5");
    register uint32_t even __asm__("r6");
    register const int8_t *row0 __asm__("r8") = weights;
    register const int8_t *row1 __asm__("r9") = weights + pitch;
    register int32_t s0 __asm__("r10") = sums[0];
    register int32_t s1 __asm__("r11") = sums[1];
    register int32_t s2 __asm__("r12") = sums[2];
    register int32_t s3 __asm__("lr") = sums[3];

    __asm__ volatile("push {r7}\n\t"
                     "subs r7, %[w], #4\n\t"
                     "blt 2f\n"
                     "1:\n\t" QUTE_GROUP_S16 QUTE_GROUP_S16 QUTE_GROUP_S16 QUTE_GROUP_S16
                     "subs r7, #4\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds r7, #4\n\t"
                     "beq 4f\n"
                     "3:\n\t" QUTE_GROUP_S16
                     "subs r7, #1\n\t"
                     "bne 3b\n"
                     "4:\n\t"
                     "pop {r7}"
                     : [row0] "+&r"(row0), [row1] "+&r"(row1), [x] "+&r"(x), [s0] "+&r"(s0), [s1] "+&r"(s1),
                       [s2] "+&r"(s2), [s3] "+&r"(s3), [w] "+&r"(w), [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2),
                       [x3] "=&r"(x3), [even] "=&r"(even)
                     :
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_GROUP_S16

/* Four weights of each of four channels times a group of one column: 21 instructions for 16 products. */
#define QUTE_GROUP_SINGLE                                                                                              \
    "ldrd %[x0], %[x1], [%[x]], #8\n\t"                                                                                \
    "ldr %[w], [%[row], %[pitch]]\n\t"                                                                                 \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s1], %[even], %[x0], %[s1]\n\t"                                                                           \
    "smlad %[s1], %[w], %[x1], %[s1]\n\t"                                                                              \
    "ldr %[w], [%[row], %[pitch], lsl #1]\n\t"                                                                         \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s2], %[even], %[x0], %[s2]\n\t"                                                                           \
    "smlad %[s2], %[w], %[x1], %[s2]\n\t"                                                                              \
    "ldr %[w], [%[row]], #4\n\t"                                                                                       \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s0], %[even], %[x0], %[s0]\n\t"                                                                           \
    "smlad %[s0], %[w], %[x1], %[s0]\n\t"                                                                              \
    "ldr %[w], [%[row3]], #4\n\t"                                                                                      \
    "sxtb16 %[even], %[w]\n\t"                                                                                         \
    "sxtb16 %[w], %[w], ror #8\n\t"                                                                                    \
    "smlad %[s3], %[even], %[x0], %[s3]\n\t"                                                                           \
    "smlad %[s3], %[w], %[x1], %[s3]\n\t"

/* Four channels, `pitch` bytes of weights apart, times `groups` groups of one column. */
QUTE_INLINE void qute_block_single_s16(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t groups, int32_t sums[4])
{
    const int8_t *row3 = weights + 3 * pitch;
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];
    uint32_t x0, x1, w, even;

    for (; groups > 0; groups--) {
        __asm__ volatile(QUTE_GROUP_SINGLE
                         : [row] "+&r"(weights), [row3] "+&r"(row3), [x] "+&r"(columns), [s0] "+&r"(s0),
                           [s1] "+&r"(s1), [s2] "+&r"(s2), [s3] "+&r"(s3), [w] "=&r"(w), [x0] "=&r"(x0),
                           [x1] "=&r"(x1), [even] "=&r"(even)
                         : [pitch] "r"(pitch)
                         : "memory");
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_GROUP_SINGLE

/* Widens `groups` runs of four bytes of two pixels, `pitch` bytes apart, into columns, `offset_pair` added; returns
 * the end of what it wrote and leaves *source behind what it read. */
QUTE_INLINE int16_t *qute_widen_pairs(
    const int8_t **source, int32_t pitch, int32_t groups, uint32_t offset_pair, int16_t *columns)
{
    const int8_t *pixel = *source;
    /* STM wants its registers in ascending order. */
    register uint32_t x0 __asm__("r2");
    register uint32_t x1 __asm__("r3");
    register uint32_t x2 __asm__("r4");
    register uint32_t x3 __asm__("r5");
    for (; groups > 0; groups--) {
        __asm__ volatile("ldr %[x3], [%[pixel], %[pitch]]\n\t"
                         "ldr %[x2], [%[pixel]], #4\n\t"
                         "sxtab16 %[x1], %[offset], %[x3]\n\t"
                         "sxtab16 %[x0], %[offset], %[x2]\n\t"
                         "sxtab16 %[x3], %[offset], %[x3], ror #8\n\t"
                         "sxtab16 %[x2], %[offset], %[x2], ror #8\n\t"
                         "stmia %[target]!, {%[x0], %[x1], %[x2], %[x3]}\n\t"
                         : [pixel] "+&r"(pixel), [target] "+&r"(columns), [x0] "=&r"(x0), [x1] "=&r"(x1),
                           [x2] "=&r"(x2), [x3] "=&r"(x3)
                         : [pitch] "r"(pitch), [offset] "r"(offset_pair)
                         : "memory");
    }
    *source = pixel;
    return columns;
}

/* `groups` groups of both columns that are zero; returns their end. */
QUTE_INLINE int16_t *qute_zero_groups(int16_t *columns, int32_t groups)
{
    for (; groups > 0; groups--) {
        qute_store_s16x2(columns, 0);
        qute_store_s16x2(columns + 2, 0);
        qute_store_s16x2(columns + 4, 0);
        qute_store_s16x2(columns + 6, 0);
        columns += 8;
    }
    return columns;
}

/* Eight values of an input times three rows of weights: 32 instructions for 24 products. All aligned to 4, which LDRD
 * needs. Registers by number, or the statement would be longer than C99 allows a string to be:
 * r0 input, r1-r3 rows, r4-r6 sums, r8-r11 widened input, r7, r12 and lr weights. */
#define QUTE_DOT_ROW(row, sum)                                                                                         \
    "ldrd r12, lr, [" row "], #8\n\t"                                                                                  \
    "sxtb16 r7, r12\n\t"                                                                                               \
    "sxtb16 r12, r12, ror #8\n\t"                                                                                      \
    "smlad " sum ", r7, r8, " sum "\n\t"                                                                               \
    "sxtb16 r7, lr\n\t"                                                                                                \
    "smlad " sum ", r12, r10, " sum "\n\t"                                                                             \
    "sxtb16 lr, lr, ror #8\n\t"                                                                                        \
    "smlad " sum ", r7, r9, " sum "\n\t"                                                                               \
    "smlad " sum ", lr, r11, " sum "\n\t"

#define QUTE_DOT_GROUP                                                                                                 \
    "ldrd r10, r11, [r0], #8\n\t"                                                                                      \
    "sxtb16 r8, r10\n\t"                                                                                               \
    "sxtb16 r9, r11\n\t"                                                                                               \
    "sxtb16 r10, r10, ror #8\n\t"                                                                                      \
    "sxtb16 r11, r11, ror #8\n\t" QUTE_DOT_ROW("r1", "r4") QUTE_DOT_ROW("r2", "r5") QUTE_DOT_ROW("r3", "r6")

/* `groups` > 0 groups of eight values; `pitch` bytes from one row of weights to the next. r7 as in qute_block_s16; where the
 * loop ends is on the stack, and it is entered as in qute_unrolled.h. */
QUTE_INLINE void qute_block_dot_s8(
    const int8_t *input, const int8_t *weights, int32_t pitch, int32_t groups, int32_t sums[3])
{
    register const int8_t *x __asm__("r0") = input;
    register const int8_t *row0 __asm__("r1") = weights;
    register const int8_t *row1 __asm__("r2") = weights + pitch;
    register const int8_t *row2 __asm__("r3") = weights + 2 * pitch;
    register int32_t s0 __asm__("r4") = sums[0];
    register int32_t s1 __asm__("r5") = sums[1];
    register int32_t s2 __asm__("r6") = sums[2];
    register int32_t e0 __asm__("r8") = QUTE_SKIPPED(groups, 4, 128);
    register uintptr_t e1 __asm__("r9") = (uintptr_t)(input + 8 * groups);
    register uint32_t o0 __asm__("r10");
    register uint32_t o1 __asm__("r11");
    register uint32_t w0 __asm__("r12");
    register uint32_t w1 __asm__("lr");

    __asm__ volatile("push {r7, %[e1]}\n\t" QUTE_ENTRY("%[e0]", "%[w1]", "1f")
                     "bx %[e0]\n"
                     "1:\n\t" QUTE_REPEATED(4) QUTE_DOT_GROUP ".endr\n\t"
                     "ldr r7, [sp, #4]\n\t"
                     "cmp %[x], r7\n\t"
                     "bne 1b\n\t"
                     "pop {r7, %[e1]}"
                     : [row0] "+&r"(row0), [row1] "+&r"(row1), [row2] "+&r"(row2), [x] "+&r"(x), [s0] "+&r"(s0),
                       [s1] "+&r"(s1), [s2] "+&r"(s2), [e0] "+&r"(e0), [e1] "+&r"(e1), [o0] "=&r"(o0),
                       [o1] "=&r"(o1), [w0] "=&r"(w0), [w1] "=&r"(w1)
                     :
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
}

#define QUTE_DOT_GROUP_S16                                                                                             \
    "ldmia r0!, {r8, r9, r10, r11}\n\t" QUTE_DOT_ROW("r1", "r4") QUTE_DOT_ROW("r2", "r5") QUTE_DOT_ROW("r3", "r6")

/* The same for an even number of groups that are widened already, in the order of the registers: 28 instructions for 24
 * products. */
QUTE_INLINE void qute_block_dot_s16(
    const int16_t *input, const int8_t *weights, int32_t pitch, int32_t groups, int32_t sums[3])
{
    register const int16_t *x __asm__("r0") = input;
    register const int8_t *row0 __asm__("r1") = weights;
    register const int8_t *row1 __asm__("r2") = weights + pitch;
    register const int8_t *row2 __asm__("r3") = weights + 2 * pitch;
    register int32_t s0 __asm__("r4") = sums[0];
    register int32_t s1 __asm__("r5") = sums[1];
    register int32_t s2 __asm__("r6") = sums[2];
    register uintptr_t e0 __asm__("r8") = (uintptr_t)(input + 8 * groups);
    register uint32_t o0 __asm__("r9");
    register uint32_t o1 __asm__("r10");
    register uint32_t o2 __asm__("r11");
    register uint32_t w0 __asm__("r12");
    register uint32_t w1 __asm__("lr");

    __asm__ volatile("push {r7, %[e0]}\n"
                     "1:\n\t" QUTE_DOT_GROUP_S16 QUTE_DOT_GROUP_S16
                     "ldr r7, [sp, #4]\n\t"
                     "cmp %[x], r7\n\t"
                     "bne 1b\n\t"
                     "pop {r7, %[e0]}"
                     : [row0] "+&r"(row0), [row1] "+&r"(row1), [row2] "+&r"(row2), [x] "+&r"(x), [s0] "+&r"(s0),
                       [s1] "+&r"(s1), [s2] "+&r"(s2), [e0] "+&r"(e0), [o0] "=&r"(o0), [o1] "=&r"(o1), [o2] "=&r"(o2),
                       [w0] "=&r"(w0), [w1] "=&r"(w1)
                     :
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
}

#undef QUTE_DOT_GROUP_S16
#undef QUTE_DOT_GROUP
#undef QUTE_DOT_ROW

/* Four weights of each of two channels times four values of each of two pixels, offset added: 20 instructions for 16
 * products. `pitch` bytes from a channel to the next and from a pixel to the next. */
#define QUTE_GROUP_S8                                                                                                  \
    "ldr %[o1], [%[row], %[pitch]]\n\t"                                                                                \
    "ldr %[o0], [%[row]], #4\n\t"                                                                                      \
    "sxtb16 %[e1], %[o1]\n\t"                                                                                          \
    "sxtb16 %[e0], %[o0]\n\t"                                                                                          \
    "sxtb16 %[o1], %[o1], ror #8\n\t"                                                                                  \
    "sxtb16 %[o0], %[o0], ror #8\n\t"                                                                                  \
    "ldr %[x1], [%[x], %[pitch]]\n\t"                                                                                  \
    "sxtab16 %[x0], r7, %[x1]\n\t"                                                                              \
    "smlad %[s1], %[e0], %[x0], %[s1]\n\t"                                                                             \
    "smlad %[s3], %[e1], %[x0], %[s3]\n\t"                                                                             \
    "sxtab16 %[x1], r7, %[x1], ror #8\n\t"                                                                      \
    "smlad %[s1], %[o0], %[x1], %[s1]\n\t"                                                                             \
    "smlad %[s3], %[o1], %[x1], %[s3]\n\t"                                                                             \
    "ldr %[x1], [%[x]], #4\n\t"                                                                                        \
    "sxtab16 %[x0], r7, %[x1]\n\t"                                                                              \
    "smlad %[s0], %[e0], %[x0], %[s0]\n\t"                                                                             \
    "smlad %[s2], %[e1], %[x0], %[s2]\n\t"                                                                             \
    "sxtab16 %[x1], r7, %[x1], ror #8\n\t"                                                                      \
    "smlad %[s0], %[o0], %[x1], %[s0]\n\t"                                                                             \
    "smlad %[s2], %[o1], %[x1], %[s2]\n\t"

/* `groups` > 0 groups of four values. r7 as in qute_block_s16: the offset; the loop is that of qute_block_dot_s8. */
QUTE_INLINE void qute_block_s8(const int8_t *input,
                               uint32_t offset_pair,
                               const int8_t *weights,
                               int32_t pitch,
                               int32_t groups,
                               int32_t sums[4])
{
    register const int8_t *x __asm__("r0") = input;
    register const int8_t *row __asm__("r1") = weights;
    register int32_t step __asm__("r2") = pitch;
    register int32_t s0 __asm__("r3") = sums[0];
    register int32_t s1 __asm__("r4") = sums[1];
    register int32_t s2 __asm__("r5") = sums[2];
    register int32_t s3 __asm__("r6") = sums[3];
    register int32_t e0 __asm__("r8") = QUTE_SKIPPED(groups, 4, 80);
    register uintptr_t e1 __asm__("r9") = (uintptr_t)(input + 4 * groups);
    register uint32_t o0 __asm__("r10") = offset_pair;
    register uint32_t o1 __asm__("r11");
    register uint32_t x0 __asm__("r12");
    register uint32_t x1 __asm__("lr");

    __asm__ volatile("push {r7, %[e1]}\n\t"
                     "mov r7, %[o0]\n\t" QUTE_ENTRY("%[e0]", "%[x1]", "1f")
                     "bx %[e0]\n"
                     "1:\n\t" QUTE_REPEATED(4) QUTE_GROUP_S8 ".endr\n\t"
                     "ldr %[e0], [sp, #4]\n\t"
                     "cmp %[x], %[e0]\n\t"
                     "bne 1b\n\t"
                     "pop {r7, %[e1]}"
                     : [row] "+&r"(row), [x] "+&r"(x), [s0] "+&r"(s0), [s1] "+&r"(s1), [s2] "+&r"(s2),
                       [s3] "+&r"(s3), [e0] "+&r"(e0), [e1] "+&r"(e1), [o0] "+&r"(o0), [o1] "=&r"(o1),
                       [x0] "=&r"(x0), [x1] "=&r"(x1)
                     : [pitch] "r"(step)
                     : "memory", "cc");
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#undef QUTE_GROUP_S8

#endif

#endif
