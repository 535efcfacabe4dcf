// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_dot.h"
#include "qute_output.h"
#include "qute_plain_blocks.h"

/* Rows at a time that keep the registers busy. */
#define ROWS 3

#if QUTE_BLOCKS

/* `count` values, a multiple of 8, in the order of qute_block_dot_s16. */
QUTE_NOINLINE void widen(const int8_t *x, int32_t count, int16_t *widened)
{
    for (; count > 0; count -= 8) {
        const uint32_t first = qute_load_s8x4(x);
        const uint32_t second = qute_load_s8x4(x + 4);
        qute_store_s16x2(widened, qute_sxtb16(first));
        qute_store_s16x2(widened + 2, qute_sxtb16(second));
        qute_store_s16x2(widened + 4, qute_sxtb16_odd(first));
        qute_store_s16x2(widened + 6, qute_sxtb16_odd(second));
        x += 8;
        widened += 8;
    }
}

#endif

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
    const int8_t *row;
    int32_t s[ROWS] = {0, 0, 0};

    for (int32_t r = 0; r < rows; r++) {
        s[r] = sums[r];
    }
#if QUTE_DSP
    const uint32_t offset_pair = qute_pair(offset);
    for (; i + 4 <= depth; i += 4) {
        const uint32_t word = qute_load_s8x4(x + i);
        const uint32_t even = qute_sxtab16(offset_pair, word);
        const uint32_t odd = qute_sxtab16_odd(offset_pair, word);
        row = weights + i;
        for (int32_t r = 0; r < rows; r++) {
            const uint32_t w = qute_load_s8x4(row);
            s[r] = qute_smlad(qute_sxtb16(w), even, s[r]);
            s[r] = qute_smlad(qute_sxtb16_odd(w), odd, s[r]);
            row += depth;
        }
    }
#endif

    x += i;
    row = weights + i;
    for (i = depth - i; i > 0; i--) {
        const int32_t value = *x++ + offset;
        for (int32_t r = 0; r < rows; r++) {
            s[r] = qute_wrapping_add(s[r], value * row[r * depth]);
        }
        row++;
    }
    for (int32_t r = 0; r < rows; r++) {
        sums[r] = s[r];
    }
}

/* What the block leaves, or all where it cannot be used. */
QUTE_NOINLINE void add_three_rows(
    const qute_dot_layer *layer, const int8_t *x, const int8_t *weights, int32_t start, int32_t sums[ROWS])
{
#if QUTE_THUMB1_BLOCKS
    (void)start;
    qute_plain_dot_s8(x, layer->input_offset, weights, layer->depth, sums);
#else
    add_rows(x, layer->input_offset, weights, start, layer->depth, sums, ROWS);
#endif
}

QUTE_NOINLINE void add_row(const qute_dot_layer *layer, const int8_t *x, const int8_t *weights, int32_t *sum)
{
    add_rows(x, layer->input_offset, weights, 0, layer->depth, sum, 1);
}

QUTE_INLINE int32_t start_of_row(const qute_dot_layer *layer, int32_t row)
{
    return layer->bias ? qute_wrapping_add(layer->common, layer->bias[row]) : layer->common;
}

QUTE_INLINE int8_t output_of_row(const qute_dot_layer *layer, int32_t row, int32_t sum)
{
    const int32_t at = row * layer->scaling_step;
    return qute_saturated_output_s8(sum, layer->multiplier[at], layer->shift[at], layer->output_offset);
}

void qute_dot_s8(const qute_dot_layer *layer, const int8_t *x, int8_t *output)
{
    const int32_t depth = layer->depth;
    const int32_t rows = layer->rows;
    int32_t row = 0;
#if QUTE_BLOCKS
    const int32_t whole =
        layer->input_offset == 0 && (((uintptr_t)x | (uintptr_t)layer->weights | (uintptr_t)depth) & 3) == 0 ? depth & ~7
                                                                                                            : 0;
    const int32_t wide = (whole < layer->room ? whole : layer->room) & ~15;
    widen(x, wide, layer->widened);
#else
    const int32_t whole = 0;
#endif
    while (rows - row >= ROWS) {
        const int8_t *weights = layer->weights + row * depth;
        int32_t sums[ROWS];
        for (int32_t r = 0; r < ROWS; r++) {
            sums[r] = start_of_row(layer, row + r);
        }
#if QUTE_BLOCKS
        if (wide > 0) {
            qute_block_dot_s16(layer->widened, weights, depth, wide >> 3, sums);
        }
        if (wide < whole) {
            qute_block_dot_s8(x + wide, weights + wide, depth, (whole - wide) >> 3, sums);
        }
#endif
        if (whole < depth) {
            /* A copy, since the address of the sums would keep them out of registers. */
            int32_t copy[ROWS] = {sums[0], sums[1], sums[2]};
            add_three_rows(layer, x, weights, whole, copy);
            for (int32_t r = 0; r < ROWS; r++) {
                sums[r] = copy[r];
            }
        }
        for (int32_t r = 0; r < ROWS; r++) {
            output[row + r] = output_of_row(layer, row + r, sums[r]);
        }
        row += ROWS;
        if (rows - row == ROWS - 1) {
            /* A third row is computed again, which costs less than two by themselves. */
            row--;
        }
    }
    for (; row < rows; row++) {
        int32_t sum = start_of_row(layer, row);
        add_row(layer, x, layer->weights + row * depth, &sum);
        output[row] = output_of_row(layer, row, sum);
    }
}
