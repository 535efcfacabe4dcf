// SPDX-License-Identifier: Apache-2.0
/* What one row of the map adds to the features of heads without an activation.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_ROW_H
#define QUTE_HEAD_SUMS_ROW_H

#include "qute_head_sums.h"

/* Products of the sums with the weights of each head, added to totals [heads][LANES]. */
QUTE_INLINE void add_row_products(
    pixel_sums pixels, const int16_t *weights, int32_t step, int32_t heads, int32_t *totals)
{
    int32_t *const end = totals + heads * LANES;
    QUTE_ROLLED
    do {
#if LANES == 4
        const uint32_t low = qute_load_s16x2(weights);
        const uint32_t high = qute_load_s16x2(weights + 2);
        totals[0] = qute_smlabb(pixels.even, low, totals[0]);
        totals[1] = qute_smlabt(pixels.odd, low, totals[1]);
        totals[2] = qute_smlatb(pixels.even, high, totals[2]);
        totals[3] = qute_smlatt(pixels.odd, high, totals[3]);
#else
        *totals += pixels * *weights;
#endif
        weights += step;
        totals += LANES;
    } while (totals != end);
}

QUTE_INLINE void qute_head_sums_row(
    const qute_head_sums_row_params *params, const int8_t *row, int32_t number, int32_t *totals)
{
    const qute_head_features *features = &params->features;
    const int32_t channels = features->channels;
    const int32_t heads = features->heads;
    const int32_t offset = features->input_offset;
    const int32_t step = params->stride * channels;
    const int32_t row_class = params->row_classes[number];
    const int16_t *const weights = params->weights + row_class * params->pixel_classes * heads * channels;
    for (int32_t next = 0; next < channels && row_class >= 0; next += LANES) {
        const int32_t channel = qute_block(next, channels);
        const int16_t *weight = weights + channel;
        const qute_head_lines *pixels = params->pixels;
        const qute_head_lines *const end = pixels + params->pixel_classes;
        do {
            const pixel_sums sums = sum_of_pixels(row + pixels->first * channels + channel,
                                                  pixels->count,
                                                  step,
                                                  offset);
            add_row_products(sums, weight, channels, heads, totals);
            weight += heads * channels;
        } while (++pixels != end);
        totals += heads * LANES;
    }
}

#endif
