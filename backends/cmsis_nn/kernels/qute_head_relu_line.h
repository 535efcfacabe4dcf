// SPDX-License-Identifier: Apache-2.0
/* The rectified outputs of one line, summed up: any kernel.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_RELU_LINE_H
#define QUTE_HEAD_RELU_LINE_H

#include "qute_head_lanes.h"
#include "qute_kernels.h"
#include "qute_requantize.h"
#include "qute_window.h"

/* Bytes from the weights of a channel to those of the next. */
#ifndef CHANNEL_STEP
#define CHANNEL_STEP 1
#endif

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

/* totals[lane] += max(0, .) of the outputs of one line along the inner axis. Taps `lines` of the outer axis are inside
 * of the map; `input` is the line that the first of them meets. */
QUTE_INLINE void add_outputs(const qute_head_relu_params *params,
                             int32_t index,
                             const int8_t *weights,
                             const int8_t *input,
                             qute_taps lines,
                             int32_t totals[LANES])
{
    const qute_head_axis *inner = &params->inner;
    weights += lines.begin * params->outer.weight_step;
    for (int32_t out_x = 0; out_x < inner->outputs; out_x++) {
        const int32_t x = out_x * inner->stride - inner->padding;
        const qute_taps columns = qute_valid_taps(x, inner->taps, 1, inner->size);
        const int8_t *values = input + (x + columns.begin) * inner->input_step;
        const int8_t *taps = weights + columns.begin * inner->weight_step;
        int32_t sums[LANES];
        for (int32_t lane = 0; lane < LANES; lane++) {
            sums[lane] = qute_shift_left(params->bias[index + lane], params->bias_shift);
        }
        for (int32_t i = lines.begin; i < lines.end; i++) {
            add_taps(inner, values, params->features.input_offset, taps, columns.end - columns.begin, sums);
            values += params->outer.input_step;
            taps += params->outer.weight_step;
        }
        for (int32_t lane = 0; lane < LANES; lane++) {
            totals[lane] += sums[lane] > 0 ? sums[lane] : 0;
        }
    }
}

#endif
