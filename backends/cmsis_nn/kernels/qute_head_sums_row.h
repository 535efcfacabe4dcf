// SPDX-License-Identifier: Apache-2.0
/* What one row of the map adds to the features of heads without an activation: it is a line that every tap meets which
 * passes over it.
 *
 * For a file that has defined LANES. */
#ifndef QUTE_HEAD_SUMS_ROW_H
#define QUTE_HEAD_SUMS_ROW_H

#include "qute_head_line_sums.h"

QUTE_INLINE void qute_head_sums_row(
    const qute_head_sums_params *params, const int8_t *row, int32_t number, int32_t *sums)
{
    static const qute_head_lines one = {0, 1};
    const qute_head_features *features = &params->features;
    const qute_head_sum_axis *outer = &params->outer;
    const qute_head_sum_axis *inner = &params->inner;
    const int32_t kernel = outer->taps * inner->taps * features->channels;
    for (int32_t next = 0; next < features->channels; next += LANES) {
        const int32_t channel = qute_block(next, features->channels);
        line_sums line;
        line.input = row + channel;
        line.offset = features->input_offset;
        line.across = inner;
        line.part = inner->lines;
        memset(line.values, 0, sizeof line.values);
        if (line.part->count > 0) {
            add_lines(&line, outer, 0, 1);
        }
        line.across = outer;
        line.part = &one;
        for (int32_t j = 0;;) {
            const int8_t *taps = features->weights + channel + j * inner->weight_step;
            for (int32_t i = 0; i < outer->taps; i++) {
                const int32_t behind = number - outer->lines[i].first;
                if (behind >= 0 && behind < outer->lines[i].count * outer->stride && behind % outer->stride == 0) {
                    add_products(taps, kernel, line.values, sums, features->heads);
                }
                taps += outer->weight_step;
            }
            if (++j == inner->taps) {
                break;
            }
            move_sums(&line, inner, j);
        }
        sums += features->heads * LANES;
    }
}

#endif
