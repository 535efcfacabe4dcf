// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_output.h"

/* sums[c * 2 + p] belongs to channel c and pixel p. Where loops have constant counts, the compiler unrolls them and
 * keeps the sums in registers. */

#if QUTE_DSP

/* Four weights of each of two channels, as words, times a group of the columns. */
QUTE_INLINE void add_group(const int16_t *columns, const uint32_t words[2], int32_t sums[4])
{
    for (int32_t c = 0; c < 2; c++) {
        const uint32_t even = qute_sxtb16(words[c]);
        const uint32_t odd = qute_sxtb16_odd(words[c]);
        for (int32_t p = 0; p < 2; p++) {
            sums[c * 2 + p] = qute_smlad(even, qute_load_s16x2(columns + 2 * p), sums[c * 2 + p]);
            sums[c * 2 + p] = qute_smlad(odd, qute_load_s16x2(columns + 4 + 2 * p), sums[c * 2 + p]);
        }
    }
}

#endif

/* The first `count` weights of two channels times columns. */
QUTE_INLINE void add_columns(
    const int16_t *columns, const int8_t *weights, int32_t pitch, int32_t count, int32_t sums[4])
{
#if QUTE_DSP
    const int32_t tail = count & 3;
    const int32_t groups = count >> 2;
#if QUTE_BLOCKS
    qute_block_s16(columns, weights, pitch, groups, sums);
#else
    for (int32_t n = 0; n < groups; n++) {
        const uint32_t words[2] = {qute_load_s8x4(weights + 4 * n), qute_load_s8x4(weights + pitch + 4 * n)};
        add_group(columns + 8 * n, words, sums);
    }
#endif
    if (tail != 0) {
        const int8_t *last = weights + 4 * groups;
        const uint32_t words[2] = {qute_load_s8_tail(last, tail), qute_load_s8_tail(last + pitch, tail)};
        add_group(columns + 8 * groups, words, sums);
    }
#else
    const int32_t length = qute_column_length(count);
    for (int32_t k = 0; k < count; k++) {
        for (int32_t c = 0; c < 2; c++) {
            const int32_t weight = weights[c * pitch + k];
            for (int32_t p = 0; p < 2; p++) {
                sums[c * 2 + p] = qute_wrapping_add(sums[c * 2 + p], weight * columns[p * length + k]);
            }
        }
    }
#endif
}

/* The weights of two channels that the rest meets. */
static void add_rest(const qute_rest *rest, const int8_t *weights, int32_t pitch, int32_t sums[4])
{
    int32_t k = 0;
#if QUTE_BLOCKS
    if (rest->step == pitch) {
        k = rest->count & ~3;
        qute_block_s8(rest->input, qute_pair(rest->offset), weights, pitch, k >> 2, sums);
    }
#endif
    for (; k < rest->count; k++) {
        for (int32_t p = 0; p < 2; p++) {
            const int32_t value = rest->input[p * rest->step + k] + rest->offset;
            for (int32_t c = 0; c < 2; c++) {
                sums[c * 2 + p] = qute_wrapping_add(sums[c * 2 + p], weights[c * pitch + k] * value);
            }
        }
    }
}

void qute_multiply_pair_s16(
    const qute_product *product, const int16_t *columns, const qute_rest *rest, int8_t *output)
{
    const qute_channels *channels = product->channels;
    const int32_t depth = product->depth;
    const int32_t column_depth = depth - rest->count;
    const int8_t *weights = product->weights;
    const int32_t *multiplier = channels->multiplier + product->first;
    const int32_t *shift = channels->shift + product->first;
    const int32_t *bias = channels->bias ? channels->bias + product->first : NULL;
    int8_t *target = output + product->first;
    int32_t left = product->last - product->first;

    while (left > 0) {
        /* The last channel of an odd number is computed with itself. */
        const int32_t pitch = left >= 2 ? depth : 0;
        const int32_t second = left >= 2 ? 1 : 0;
        int32_t sums[4] = {0, 0, 0, 0};
        if (bias) {
            sums[0] = sums[1] = bias[0];
            sums[2] = sums[3] = bias[second];
            bias += 2;
        }
        add_columns(columns, weights, pitch, column_depth, sums);
        if (rest->count > 0) {
            add_rest(rest, weights + column_depth, pitch, sums);
        }
        qute_put_pair(sums, multiplier[0], shift[0], channels->offset, target, product->pixel_step);
        qute_put_pair(
            sums + 2, multiplier[second], shift[second], channels->offset, target + second, product->pixel_step);
        weights += 2 * depth;
        multiplier += 2;
        shift += 2;
        target += 2;
        left -= 2;
    }
}
