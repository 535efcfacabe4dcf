// SPDX-License-Identifier: Apache-2.0
/* What one row of the map adds to the features of heads without an activation. A column of taps meets the same pixels
 * of the row with each of its taps that pass over the row, so the weights of these taps are summed up first.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_ROW_H
#define QUTE_HEAD_SUMS_ROW_H

#include "qute_head_lanes.h"
#include "qute_kernels.h"

/* The taps of the outer axis that meet a row: every stride-th from the first on. */
typedef struct {
    int32_t first;
    int32_t count;
} met_taps;

QUTE_INLINE met_taps taps_that_meet(const qute_head_sum_axis *axis, int32_t row)
{
    met_taps met = {0, 0};
    for (int32_t i = 0; i < axis->taps; i++) {
        const int32_t behind = row - axis->lines[i].first;
        if (behind >= 0 && behind < axis->lines[i].count * axis->stride && behind % axis->stride == 0) {
            met.first = met.count == 0 ? i : met.first;
            met.count++;
        }
    }
    return met;
}

/* The pixels of a row that a column of taps meets, summed up with their offsets, times the weights of `taps` > 0 taps,
 * `weight_step` bytes apart, into the sums of all heads, whose weights are `head_step` bytes apart. */
QUTE_INLINE void add_column(const int8_t *pixels,
                            int32_t count,
                            int32_t pixel_step,
                            int32_t offset,
                            const int8_t *weights,
                            int32_t taps,
                            int32_t weight_step,
                            int32_t head_step,
                            int32_t heads,
                            int32_t *sums)
{
#if LANES == 4
    uint32_t even = qute_pair(count * offset);
    uint32_t odd = even;
#pragma GCC unroll 1
    for (; count > 0; count--) {
        const uint32_t word = qute_load_s8x4(pixels);
        even = qute_sxtab16(even, word);
        odd = qute_sxtab16_odd(odd, word);
        pixels += pixel_step;
    }
    for (; heads > 0; heads--) {
        const int8_t *tap = weights;
        uint32_t word = qute_load_s8x4(tap);
        uint32_t weight_even = qute_sxtb16(word);
        uint32_t weight_odd = qute_sxtb16_odd(word);
#pragma GCC unroll 1
        for (int32_t left = taps - 1; left > 0; left--) {
            tap += weight_step;
            word = qute_load_s8x4(tap);
            weight_even = qute_sxtab16(weight_even, word);
            weight_odd = qute_sxtab16_odd(weight_odd, word);
        }
        sums[0] = qute_smlabb(even, weight_even, sums[0]);
        sums[1] = qute_smlabb(odd, weight_odd, sums[1]);
        sums[2] = qute_smlatt(even, weight_even, sums[2]);
        sums[3] = qute_smlatt(odd, weight_odd, sums[3]);
        weights += head_step;
        sums += LANES;
    }
#else
    int32_t sum = count * offset;
    for (; count > 0; count--) {
        sum += *pixels;
        pixels += pixel_step;
    }
    for (; heads > 0; heads--) {
        const int8_t *tap = weights;
        int32_t weight = *tap;
        for (int32_t left = taps - 1; left > 0; left--) {
            tap += weight_step;
            weight += *tap;
        }
        *sums++ += weight * sum;
        weights += head_step;
    }
#endif
}

QUTE_INLINE void qute_head_sums_row(
    const qute_head_sums_params *params, const int8_t *row, int32_t number, int32_t *sums)
{
    const qute_head_features *features = &params->features;
    const qute_head_sum_axis *outer = &params->outer;
    const qute_head_sum_axis *inner = &params->inner;
    const int32_t kernel = outer->taps * inner->taps * features->channels;
    const met_taps met = taps_that_meet(outer, number);
    for (int32_t next = 0; next < features->channels && met.count > 0; next += LANES) {
        const int32_t channel = qute_block(next, features->channels);
        const int8_t *weights = features->weights + met.first * outer->weight_step + channel;
        for (int32_t j = 0; j < inner->taps; j++) {
            add_column(row + inner->lines[j].first * inner->input_step + channel,
                       inner->lines[j].count,
                       inner->stride * inner->input_step,
                       features->input_offset,
                       weights,
                       met.count,
                       outer->stride * outer->weight_step,
                       kernel,
                       features->heads,
                       sums);
            weights += inner->weight_step;
        }
        sums += features->heads * LANES;
    }
}

#endif
