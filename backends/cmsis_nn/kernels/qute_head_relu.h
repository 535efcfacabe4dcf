// SPDX-License-Identifier: Apache-2.0
/* Convolution, max(0, .) and the sum over all output pixels at once: the map of a head is never written.
 *
 * Any kernel, for a file that has defined LANES. */
#ifndef QUTE_HEAD_RELU_H
#define QUTE_HEAD_RELU_H

#include "qute_head_features.h"
#include "qute_head_relu_line.h"

/* The features of the block of channels whose first feature, weight and value these are. */
QUTE_NOINLINE void features_of_block(
    const qute_head_relu_params *params, int32_t index, const int8_t *weights, const int8_t *input, int16_t *output)
{
    const qute_head_axis *outer = &params->outer;
    int32_t totals[LANES] = {0};
    for (int32_t out_y = 0; out_y < outer->outputs; out_y++) {
        const int32_t y = out_y * outer->stride - outer->padding;
        const qute_taps lines = qute_valid_taps(y, outer->taps, 1, outer->size);
        add_outputs(params, index, weights, input + (y + lines.begin) * outer->input_step, lines, totals);
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
            features_of_block(params, head * channels + channel, weights + channel * CHANNEL_STEP, input + channel, output);
        }
        weights += params->outer.taps * params->inner.taps * channels;
    }
}

#endif
