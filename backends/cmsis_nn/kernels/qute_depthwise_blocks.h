// SPDX-License-Identifier: Apache-2.0
/* Taps of four channels on the DSP path.
 *
 * Taps of two rows, one above the other, share a word, so that one SMLAD serves both. The filter is widened in the
 * order in which it is read: for each column, for each pair of rows, a word for each channel; then, for an odd row,
 * the words of channels {0, 2} and {1, 3}.
 *
 * In assembly because four sums and their operands fill the register file, and compilers that schedule the
 * instructions themselves keep half of it on the stack.
 */
#ifndef QUTE_DEPTHWISE_BLOCKS_H
#define QUTE_DEPTHWISE_BLOCKS_H

#include "qute_depthwise.h"
#include "qute_scaling.h"

#if QUTE_DEPTHWISE_S8X4

/* Two rows of a column at `p`, `rs` bytes apart. */
#define QUTE_TAPS_OF_PAIR                                                                                              \
    "ldr %[a], [%[p]]\n\t"                                                                                             \
    "ldr %[b], [%[p], %[rs]]\n\t"                                                                                      \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                                \
    "pkhbt %[x], %[a], %[b], lsl #16\n\t"                                                                              \
    "pkhtb %[b], %[b], %[a], asr #16\n\t"                                                                              \
    "sxtab16 %[a], %[off], %[x]\n\t"                                                                                   \
    "smlad %[s0], %[a], %[w0], %[s0]\n\t"                                                                              \
    "sxtab16 %[a], %[off], %[x], ror #8\n\t"                                                                           \
    "smlad %[s1], %[a], %[w1], %[s1]\n\t"                                                                              \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                                \
    "sxtab16 %[a], %[off], %[b]\n\t"                                                                                   \
    "smlad %[s2], %[a], %[w0], %[s2]\n\t"                                                                              \
    "sxtab16 %[a], %[off], %[b], ror #8\n\t"                                                                           \
    "smlad %[s3], %[a], %[w1], %[s3]\n\t"

/* The row of a column that is in `b`. */
#define QUTE_TAPS_OF_ROW                                                                                               \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                                \
    "sxtab16 %[a], %[off], %[b]\n\t"                                                                                   \
    "sxtab16 %[b], %[off], %[b], ror #8\n\t"                                                                           \
    "smlabb %[s0], %[a], %[w0], %[s0]\n\t"                                                                             \
    "smlatt %[s2], %[a], %[w0], %[s2]\n\t"                                                                             \
    "smlabb %[s1], %[b], %[w1], %[s1]\n\t"                                                                             \
    "smlatt %[s3], %[b], %[w1], %[s3]\n\t"

#define QUTE_TAP_OPERANDS                                                                                              \
    [s0] "+&r"(sums->of[0]), [s1] "+&r"(sums->of[1]), [s2] "+&r"(sums->of[2]), [s3] "+&r"(sums->of[3]),                \
        [w] "+&r"(filter), [w0] "=&r"(w0), [w1] "=&r"(w1), [a] "=&r"(a), [b] "=&r"(b)

/* Two rows at `tap`; returns where the filter goes on. */
QUTE_INLINE const uint32_t *qute_add_two_rows(
    qute_sums *sums, const int8_t *tap, int32_t row_step, const uint32_t *filter, uint32_t offset)
{
    uint32_t w0, w1, a, b, x;
    __asm__ volatile(QUTE_TAPS_OF_PAIR
                     : QUTE_TAP_OPERANDS, [x] "=&r"(x)
                     : [p] "r"(tap), [rs] "r"(row_step), [off] "r"(offset)
                     : "memory");
    return filter;
}

QUTE_INLINE const uint32_t *qute_add_one_row(
    qute_sums *sums, const int8_t *tap, const uint32_t *filter, uint32_t offset)
{
    uint32_t w0, w1, a, b;
    __asm__ volatile("ldr %[b], [%[p]]\n\t" QUTE_TAPS_OF_ROW
                     : QUTE_TAP_OPERANDS
                     : [p] "r"(tap), [off] "r"(offset)
                     : "memory");
    return filter;
}

QUTE_INLINE const uint32_t *qute_add_three_rows(
    qute_sums *sums, const int8_t *tap, int32_t row_step, const uint32_t *filter, uint32_t offset)
{
    uint32_t w0, w1, a, b, x;
    __asm__ volatile(QUTE_TAPS_OF_PAIR "ldr %[b], [%[p], %[rs], lsl #1]\n\t" QUTE_TAPS_OF_ROW
                     : QUTE_TAP_OPERANDS, [x] "=&r"(x)
                     : [p] "r"(tap), [rs] "r"(row_step), [off] "r"(offset)
                     : "memory");
    return filter;
}

/* Sums that start with the four words at `words`; returns what follows. */
QUTE_INLINE const uint32_t *qute_start_sums(qute_sums *sums, const uint32_t *words)
{
    __asm__ volatile("ldrd %[s0], %[s1], [%[w]], #8\n\tldrd %[s2], %[s3], [%[w]], #8"
                     : [s0] "=&r"(sums->of[0]), [s1] "=&r"(sums->of[1]), [s2] "=&r"(sums->of[2]),
                       [s3] "=&r"(sums->of[3]), [w] "+&r"(words)
                     :
                     : "memory");
    return words;
}

/* Widens taps of two rows to four words. */
QUTE_INLINE uint32_t *qute_widen_two(uint32_t *words, uint32_t above, uint32_t below)
{
    uint32_t x, y, z;
    __asm__ volatile("pkhbt %[x], %[a], %[b], lsl #16\n\t"
                     "pkhtb %[z], %[b], %[a], asr #16\n\t"
                     "sxtb16 %[y], %[x], ror #8\n\t"
                     "sxtb16 %[x], %[x]\n\t"
                     "strd %[x], %[y], [%[w]], #8\n\t"
                     "sxtb16 %[y], %[z], ror #8\n\t"
                     "sxtb16 %[x], %[z]\n\t"
                     "strd %[x], %[y], [%[w]], #8"
                     : [w] "+&r"(words), [x] "=&r"(x), [y] "=&r"(y), [z] "=&r"(z)
                     : [a] "r"(above), [b] "r"(below)
                     : "memory");
    return words;
}

/* Widens taps of one row to two words. */
QUTE_INLINE uint32_t *qute_widen_one(uint32_t *words, uint32_t taps)
{
    uint32_t x, y;
    __asm__ volatile("sxtb16 %[x], %[a]\n\t"
                     "sxtb16 %[y], %[a], ror #8\n\t"
                     "strd %[x], %[y], [%[w]], #8"
                     : [w] "+&r"(words), [x] "=&r"(x), [y] "=&r"(y)
                     : [a] "r"(taps)
                     : "memory");
    return words;
}

#endif

#endif
