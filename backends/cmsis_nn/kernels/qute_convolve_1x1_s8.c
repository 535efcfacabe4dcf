// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"
#include "qute_dot.h"
#include "qute_output.h"

/* Pixels two at a time, all channels of a pair before the next. As many values as there is room for on the stack are
 * widened once, into columns; the rest of a deep pixel is read from the map for every pair of channels. */

#define COLUMN_DEPTH 64

/* One pixel; there is room for two columns. */
QUTE_COLD void multiply_pixel(
    const qute_product *product, const int8_t *input, int32_t offset, int16_t *columns, int8_t *output)
{
    const qute_channels *channels = product->channels;
    const qute_dot_layer layer = {product->weights,
                                  product->depth,
                                  product->last,
                                  offset,
                                  0,
                                  channels->bias,
                                  channels->multiplier,
                                  channels->shift,
                                  1,
                                  channels->offset,
                                  columns,
                                  2 * COLUMN_DEPTH};
    qute_dot_s8(&layer, input, output);
    qute_clamp_s8(output, product->last, channels->min, channels->max);
}

QUTE_SMALL void qute_convolve_1x1_s8(const cmsis_nn_conv_params *params,
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
                qute_widen_s16(pixel, widened, rest.offset, 0, 2, columns.values);
                qute_widen_s16(pixel + rest.step, widened, rest.offset, 1, 2, columns.values);
                rest.input = pixel + widened;
                qute_multiply_pair_s16(&product, columns.values, &rest, output);
                qute_clamp_s8(output, 2 * output_dims->c, channels->min, channels->max);
                pixel += 2 * rest.step;
                output += 2 * output_dims->c;
            }
            if (left > 0) {
                multiply_pixel(&product, pixel, rest.offset, columns.values, output);
                output += output_dims->c;
            }
        }
        input += input_dims->h * input_dims->w * depth;
    }
}
