// SPDX-License-Identifier: Apache-2.0
/* Without an activation the sum over the output pixels is linear in the map: that of w * x over all taps and pixels is
 * that of w * S over the taps, S the sum of the inputs that a tap meets on its way over the map. At a stride of 1,
 * neighbouring taps meet the same lines but for one at either end, so that S follows from the one before.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_H
#define QUTE_HEAD_SUMS_H

#include "qute_head_features.h"
#include "qute_head_line_sums.h"

/* Heads at a time. */
#define MAX_HEADS 3

/* The features of the block of channels at `channel`, for `heads` heads from `head` on. */
QUTE_INLINE void features_of_block(
    const qute_head_sums_params *params, const int8_t *input, int32_t channel, int32_t head, int32_t heads, int16_t *output)
{
    const qute_head_features *features = &params->features;
    const int32_t kernel = params->outer.taps * params->inner.taps * features->channels;
    const int8_t *row = features->weights + head * kernel + channel;
    int32_t totals[MAX_HEADS * LANES] = {0};
    int32_t row_sums[LANES] = {0};
    line_sums sums;
    sums.input = input + channel;
    sums.offset = features->input_offset;
    for (int32_t i = 0; i < params->outer.taps; i++) {
        const int8_t *tap = row;
        memcpy(sums.values, row_sums, sizeof row_sums);
        sums.across = &params->inner;
        sums.part = params->inner.lines;
        move_sums(&sums, &params->outer, i);
        memcpy(row_sums, sums.values, sizeof row_sums);
        sums.across = &params->outer;
        sums.part = params->outer.lines + i;
        for (int32_t j = 0;;) {
            add_products(tap, kernel, sums.values, totals, heads);
            tap += params->inner.weight_step;
            if (++j == params->inner.taps) {
                break;
            }
            move_sums(&sums, &params->inner, j);
        }
        row += params->outer.weight_step;
    }
    for (int32_t k = 0; k < heads; k++) {
        qute_store_features(
            features, totals + k * LANES, LANES, (head + k) * features->channels + channel, 1, output);
    }
}

QUTE_INLINE void qute_head_sums(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t left = features->heads - head;
        const int32_t heads = left < MAX_HEADS ? left : MAX_HEADS;
        for (int32_t next = 0; next < features->channels; next += LANES) {
            features_of_block(params, input, qute_block(next, features->channels), head, heads, output);
        }
    }
}

#endif
