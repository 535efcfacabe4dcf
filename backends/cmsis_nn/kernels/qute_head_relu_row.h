// SPDX-License-Identifier: Apache-2.0
/* What one row of outputs adds to the features of heads with an activation.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_RELU_ROW_H
#define QUTE_HEAD_RELU_ROW_H

#include "qute_head_relu_line.h"

QUTE_NOINLINE void add_block(const qute_head_relu_params *params,
                             int32_t index,
                             const int8_t *weights,
                             const int8_t *rows,
                             qute_taps lines,
                             int32_t *sums)
{
    int32_t totals[LANES];
    memcpy(totals, sums, sizeof totals);
    add_outputs(params, index, weights, rows, lines, totals);
    memcpy(sums, totals, sizeof totals);
}

QUTE_INLINE void qute_head_relu_row(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    const int32_t channels = params->features.channels;
    const int32_t kernel = params->outer.taps * params->inner.taps * channels;
    qute_taps lines;
    lines.begin = above;
    lines.end = above + count;
    for (int32_t next = 0; next < channels; next += LANES) {
        const int32_t channel = qute_block(next, channels);
        const int8_t *weights = params->features.weights + channel * CHANNEL_STEP;
        for (int32_t head = 0; head < params->features.heads; head++) {
            add_block(params, head * channels + channel, weights, rows + channel, lines, sums);
            weights += kernel;
            sums += LANES;
        }
    }
}

#endif
