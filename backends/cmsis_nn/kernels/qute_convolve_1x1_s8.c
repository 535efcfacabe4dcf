// SPDX-License-Identifier: Apache-2.0
#include "qute_blocks.h"
#include "qute_convolve.h"
#include "qute_dot.h"
#include "qute_output.h"

/* Pixels two at a time, all channels of a pair before the next. As many values as there is room for on the stack are
 * widened once, into columns; the rest of a deep pixel is read from the map for every pair of channels. */

#define COLUMN_DEPTH 64

/* One pixel: channels in threes. */
QUTE_NOINLINE void multiply_pixel(const qute_product *product, const int8_t *input, int32_t offset, int8_t *output)
{
    const qute_channels *channels = product->channels;
    for (int32_t channel = 0; channel < product->last; channel += QUTE_DOT_ROWS) {
        const int32_t first = qute_first_row(channel, product->last);
        const int32_t count = product->last - first < QUTE_DOT_ROWS ? product->last - first : QUTE_DOT_ROWS;
        int32_t sums[QUTE_DOT_ROWS];
        for (int32_t c = 0; c < count; c++) {
            QUTE_NO_CALL;
            sums[c] = qute_bias(channels, first + c);
        }
        qute_dot_s8(input, offset, product->weights + first * product->depth, product->depth, count, sums);
        for (int32_t c = 0; c < count; c++) {
            output[first + c] = qute_saturated_output_s8(
                sums[c], channels->multiplier[first + c], channels->shift[first + c], channels->offset);
        }
    }
    qute_clamp_s8(output, product->last, channels->min, channels->max);
}

/* The first `count` values of two pixels, `step` bytes apart, as columns (see qute_convolve.h). */
QUTE_NOINLINE void widen_pair(const int8_t *input, int32_t step, int32_t count, int32_t offset, int16_t *columns)
{
#if QUTE_DSP
    const uint32_t offset_pair = qute_pair(offset);
    const uint32_t zero_points = ((uint32_t)-offset & 0xffU) * 0x01010101U;
    int32_t k = 0;
#if QUTE_BLOCKS
    columns = qute_widen_pairs(&input, step, count >> 2, offset_pair, columns);
    k = count & ~3;
#endif
    for (; k < count; k += 4) {
        for (int32_t p = 0; p < 2; p++) {
            const int8_t *pixel = input + p * step;
            const int32_t left = count - k;
            const uint32_t word = left >= 4 ? qute_load_s8x4(pixel)
                                            : qute_load_s8_tail(pixel, left) | (zero_points << (8 * left));
            qute_store_s16x2(columns + 2 * p, qute_sxtab16(offset_pair, word));
            qute_store_s16x2(columns + 4 + 2 * p, qute_sxtab16_odd(offset_pair, word));
        }
        input += 4;
        columns += 8;
    }
#else
    const int32_t length = qute_column_length(count);
    for (int32_t p = 0; p < 2; p++) {
        for (int32_t k = 0; k < count; k++) {
            columns[p * length + k] = (int16_t)(input[p * step + k] + offset);
        }
    }
#endif
}

void qute_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                          const qute_channels *channels,
                          const cmsis_nn_dims *input_dims,
                          const int8_t *input,
                          const int8_t *filter,
                          const cmsis_nn_dims *output_dims,
                          int8_t *output)
{
    union {
        int32_t aligned;
        int16_t values[2 * COLUMN_DEPTH];
    } columns;
    const int32_t depth = input_dims->c;
    const int32_t widened = depth < COLUMN_DEPTH ? depth : COLUMN_DEPTH;
    const int32_t strided = params->stride.h != 1 || params->stride.w != 1;
    const int32_t row_pixels = strided ? output_dims->w : input_dims->h * input_dims->w;
    const int32_t rows = strided ? output_dims->h : 1;
    const int32_t row_step = params->stride.h * input_dims->w * depth;
    const qute_product product = {channels, filter, depth, 0, output_dims->c, output_dims->c};
    qute_rest rest = {NULL, params->stride.w * depth, depth - widened, params->input_offset};

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t row = 0; row < rows; row++) {
            const int8_t *pixel = input + row * row_step;
            int32_t left = row_pixels;
            for (; left >= 2; left -= 2) {
                widen_pair(pixel, rest.step, widened, rest.offset, columns.values);
                rest.input = pixel + widened;
                qute_multiply_pair_s16(&product, columns.values, &rest, output);
                qute_clamp_s8(output, 2 * output_dims->c, channels->min, channels->max);
                pixel += 2 * rest.step;
                output += 2 * output_dims->c;
            }
            if (left > 0) {
                multiply_pixel(&product, pixel, rest.offset, output);
                output += output_dims->c;
            }
        }
        input += input_dims->h * input_dims->w * depth;
    }
}
