// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"

#if QUTE_DSP

#include "qute_head_relu_3x3.h"
#include "qute_requantize.h"

/* A tile has pairs {line 0, line 2} and {line 1 one place before, line 1}: nine products are four pairs and one more. */
QUTE_NOINLINE void fill_tile(const tile_line *lines,
                             int32_t at,
                             int32_t left,
                             int32_t inside,
                             uint32_t none,
                             uint32_t offset,
                             tile_column *column,
                             const tile_column *end)
{
    const block_pairs outside = pairs_of(none, none, offset);
    const int8_t *upper = pixels_at(lines, at);
    const int8_t *middle = pixels_at(lines + 1, at);
    const int8_t *lower = pixels_at(lines + 2, at);
    uint32_t before = none;
    QUTE_ROLLED
    for (; left > 0; left--) {
        put_column(column++, outside, outside);
    }
    QUTE_ROLLED
    for (; inside > 0; inside--) {
        const uint32_t here = qute_load_s8x4(middle);
        const block_pairs outer = pairs_of(qute_load_s8x4(upper), qute_load_s8x4(lower), offset);
        put_column(column++, outer, pairs_of(before, here, offset));
        before = here;
        upper += lines[0].step;
        middle += lines[1].step;
        lower += lines[2].step;
    }
    QUTE_ROLLED
    while (column != end) {
        put_column(column++, outside, pairs_of(before, none, offset));
        before = none;
    }
}

/* Adds max(0, .) of `count` > 0 outputs of one head to the sums of a block of channels. */
QUTE_NOINLINE void add_head(
    const tile_column *tile, int32_t count, const int8_t *weights, const int16_t *bias, int32_t bias_shift, int32_t *sums)
{
    int32_t *const end = sums + LANES;
    const pixel_pairs *channel = tile->channels;
    QUTE_ROLLED
    do {
        const channel_weights w = weights_of(weights);
        const int32_t start = qute_shift_left(*bias++, bias_shift);
        const pixel_pairs *pixels = channel++;
        int32_t left = count;
        int32_t total = *sums;
        pixel_pairs here = *pixels;
        int32_t even = qute_smlad(here.first, w.outer[0], start);
        int32_t odd;
        here = *(pixels += LANES);
        even = qute_smlad(here.first, w.outer[1], even);
        even = qute_smlad(here.second, w.middle_01, even);
        odd = qute_smlad(here.first, w.outer[0], start);
        QUTE_ROLLED
        do {
            here = *(pixels += LANES);
            even = qute_smlad(here.first, w.outer[2], even);
            even = qute_smlatt(here.second, w.middle_2, even);
            total += qute_positive(even);
            if (--left == 0) {
                break;
            }
            odd = qute_smlad(here.first, w.outer[1], odd);
            odd = qute_smlad(here.second, w.middle_01, odd);
            even = qute_smlad(here.first, w.outer[0], start);
            here = *(pixels += LANES);
            odd = qute_smlad(here.first, w.outer[2], odd);
            odd = qute_smlatt(here.second, w.middle_2, odd);
            total += qute_positive(odd);
            even = qute_smlad(here.first, w.outer[1], even);
            even = qute_smlad(here.second, w.middle_01, even);
            odd = qute_smlad(here.first, w.outer[0], start);
        } while (--left != 0);
        *sums++ = total;
        weights += KERNEL * KERNEL;
    } while (sums != end);
}

void qute_head_relu_3x3_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    const int32_t channels = params->features.channels;
    const int32_t step = params->inner.input_step;
    const uint32_t none = outside_of(params);
    tile_line lines[KERNEL];
    find_lines(params, rows, above, above + count, &none, lines, KERNEL);
    for (int32_t next = 0; next < channels; next += LANES) {
        const int32_t channel = qute_block(next, channels);
        for (int32_t out_x = 0; out_x < params->inner.outputs; out_x += PLACES) {
            const int32_t outputs = qute_smaller(params->inner.outputs - out_x, PLACES);
            const int32_t x = out_x - params->inner.padding;
            const qute_taps places = qute_valid_taps(x, outputs + KERNEL - 1, 1, params->inner.size);
            const int8_t *weights = params->features.weights + channel * KERNEL * KERNEL;
            const int16_t *bias = params->bias + channel;
            tile_column tile[PLACES + KERNEL - 1];
            fill_tile(lines,
                      (x + places.begin) * step + channel,
                      places.begin,
                      places.end - places.begin,
                      none,
                      qute_pair(params->features.input_offset),
                      tile,
                      tile + outputs + KERNEL - 1);
            for (int32_t k = 0; k < params->features.heads; k++) {
                add_head(tile, outputs, weights, bias, params->bias_shift, sums + k * LANES);
                weights += channels * KERNEL * KERNEL;
                bias += channels;
            }
        }
        sums += params->features.heads * LANES;
    }
}

#else

#define LANES 1
#define CHANNEL_STEP 9

#include "qute_head_relu_row.h"

void qute_head_relu_3x3_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums)
{
    qute_head_relu_row(params, rows, count, above, sums);
}

#endif
