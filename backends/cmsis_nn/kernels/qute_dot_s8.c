// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_dot.h"
#include "qute_requantize.h"

/* ROWS rows from value `start` on; the compiler keeps the sums in registers, since ROWS is a constant wherever this is
 * inlined. */
QUTE_INLINE void add_rows(const int8_t *x,
                          int32_t offset,
                          const int8_t *weights,
                          int32_t start,
                          int32_t depth,
                          int32_t *sums,
                          const int32_t rows)
{
    int32_t i = start;

#if QUTE_DSP
    const uint32_t offset_pair = qute_pair(offset);
    for (; i + 4 <= depth; i += 4) {
        const uint32_t word = qute_load_s8x4(x + i);
        const uint32_t even = qute_sxtab16(offset_pair, word);
        const uint32_t odd = qute_sxtab16_odd(offset_pair, word);
        const int8_t *row = weights + i;
        for (int32_t r = 0; r < rows; r++) {
            const uint32_t w = qute_load_s8x4(row);
            sums[r] = qute_smlad(qute_sxtb16(w), even, sums[r]);
            sums[r] = qute_smlad(qute_sxtb16_odd(w), odd, sums[r]);
            row += depth;
        }
    }
#endif

    for (; i < depth; i++) {
        const int32_t value = x[i] + offset;
        for (int32_t r = 0; r < rows; r++) {
            sums[r] = qute_wrapping_add(sums[r], value * weights[r * depth + i]);
        }
    }
}

/* What the block leaves, or all where it cannot be used. */
QUTE_NOINLINE void add_three_rows(
    const int8_t *x, int32_t offset, const int8_t *weights, int32_t start, int32_t depth, int32_t *sums)
{
    add_rows(x, offset, weights, start, depth, sums, QUTE_DOT_ROWS);
}

QUTE_NOINLINE void add_row(const int8_t *x, int32_t offset, const int8_t *weights, int32_t depth, int32_t *sum)
{
    add_rows(x, offset, weights, 0, depth, sum, 1);
}

void qute_dot_s8(
    const int8_t *x, int32_t offset, const int8_t *weights, int32_t depth, int32_t rows, int32_t *sums)
{
    if (rows == QUTE_DOT_ROWS) {
        int32_t start = 0;
#if QUTE_BLOCKS
        if (offset == 0 && (((uintptr_t)x | (uintptr_t)weights | (uintptr_t)depth) & 3) == 0) {
            qute_block_dot_s8(x, weights, depth, depth >> 3, sums);
            start = depth & ~7;
        }
#endif
        if (start < depth) {
            add_three_rows(x, offset, weights, start, depth, sums);
        }
        return;
    }
    for (int32_t r = 0; r < rows; r++) {
        add_row(x, offset, weights + r * depth, depth, sums + r);
    }
}
