// SPDX-License-Identifier: Apache-2.0
/* Convolution, max(0, .) and the sum over all output pixels at once: the map of a head is never written.
 *
 * Any kernel, for a file that has defined LANES. */
#ifndef QUTE_HEAD_RELU_H
#define QUTE_HEAD_RELU_H

#include "qute_head_features.h"
#include "qute_head_lanes.h"
#include "qute_window.h"

/* sums[lane] += (values[lane] + offset) * weights[lane] for `taps` taps along an axis. */
QUTE_INLINE void add_taps(const qute_head_axis *axis,
                          const int8_t *values,
                          int32_t offset,
                          const int8_t *weights,
                          int32_t taps,
                          int32_t sums[LANES])
{
    const int32_t step = axis->input_step;
    const int32_t weight_step = axis->weight_step;
#if LANES == 4
    const uint32_t offset_pair = qute_pair(offset);
#endif
#pragma GCC unroll 1
    for (; taps > 0; taps--) {
#if LANES == 4
        const uint32_t value = qute_load_s8x4(values);
        const uint32_t weight = qute_load_s8x4(weights);
        const uint32_t even = qute_sxtab16(offset_pair, value);
        const uint32_t odd = qute_sxtab16_odd(offset_pair, value);
        const uint32_t weight_even = qute_sxtb16(weight);
        const uint32_t weight_odd = qute_sxtb16_odd(weight);
        sums[0] = qute_smlabb(even, weight_even, sums[0]);
        sums[1] = qute_smlabb(odd, weight_odd, sums[1]);
        sums[2] = qute_smlatt(even, weight_even, sums[2]);
        sums[3] = qute_smlatt(odd, weight_odd, sums[3]);
#else
        sums[0] += (*values + offset) * *weights;
#endif
        values += step;
        weights += weight_step;
    }
}

/* The features of the block of channels whose first feature, weight and value these are. */
QUTE_NOINLINE void features_of_block(
    const qute_head_relu_params *params, int32_t index, const int8_t *weights, const int8_t *input, int16_t *output)
{
    const qute_head_axis *outer = &params->outer;
    const qute_head_axis *inner = &params->inner;
    int32_t totals[LANES] = {0};
    for (int32_t out_y = 0; out_y < outer->outputs; out_y++) {
        const int32_t y = out_y * outer->stride - outer->padding;
        const qute_taps rows = qute_valid_taps(y, outer->taps, 1, outer->size);
        for (int32_t out_x = 0; out_x < inner->outputs; out_x++) {
            const int32_t x = out_x * inner->stride - inner->padding;
            const qute_taps columns = qute_valid_taps(x, inner->taps, 1, inner->size);
            int32_t sums[LANES];
            for (int32_t lane = 0; lane < LANES; lane++) {
                sums[lane] = qute_shift_left(params->bias[index + lane], params->bias_shift);
            }
            for (int32_t i = rows.begin; i < rows.end; i++) {
                add_taps(inner,
                         input + (y + i) * outer->input_step + (x + columns.begin) * inner->input_step,
                         params->features.input_offset,
                         weights + i * outer->weight_step + columns.begin * inner->weight_step,
                         columns.end - columns.begin,
                         sums);
            }
            for (int32_t lane = 0; lane < LANES; lane++) {
                totals[lane] += sums[lane] > 0 ? sums[lane] : 0;
            }
        }
    }
    qute_store_features(&params->features, totals, LANES, index, 1, output);
}

QUTE_INLINE void qute_head_relu(const qute_head_relu_params *params, const int8_t *input, int16_t *output)
{
    const int32_t channels = params->features.channels;
    const int8_t *weights = params->features.weights;
    for (int32_t head = 0; head < params->features.heads; head++) {
        for (int32_t next = 0; next < channels; next += LANES) {
            const int32_t channel = qute_block(next, channels);
            features_of_block(params, head * channels + channel, weights + channel, input + channel, output);
        }
        weights += params->outer.taps * params->inner.taps * channels;
    }
}

#endif
