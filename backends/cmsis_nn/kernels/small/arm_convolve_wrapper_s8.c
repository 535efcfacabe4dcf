// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* Two output pixels at a time, an odd one twice: their windows are widened into columns, which are multiplied with all
 * filters. Those of pointwise kernels lie on the stack; a pixel that finds no room there is multiplied as it lies. */

#define COLUMN_DEPTH 64

QUTE_SMALL arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx,
                                                       const cmsis_nn_conv_params *conv_params,
                                                       const cmsis_nn_per_channel_quant_params *quant_params,
                                                       const cmsis_nn_dims *input_dims,
                                                       const int8_t *input_data,
                                                       const cmsis_nn_dims *filter_dims,
                                                       const int8_t *filter_data,
                                                       const cmsis_nn_dims *bias_dims,
                                                       const int32_t *bias_data,
                                                       const cmsis_nn_dims *output_dims,
                                                       int8_t *output_data)
{
    union {
        int32_t aligned;
        int16_t values[2 * COLUMN_DEPTH];
    } stack;
    int16_t *columns = (int16_t *)ctx->buf;
    const cmsis_nn_tile stride = conv_params->stride;
    const int32_t channels = output_dims->c;
    const int32_t groups = input_dims->c / filter_dims->c;
    const int is_pointwise = qute_small_is_pointwise(conv_params, input_dims, filter_dims);
    int32_t height = output_dims->h;
    int32_t width = output_dims->w;
    qute_small_scaling scaling;
    qute_small_filters filters;
    qute_small_windows windows;
    (void)bias_dims;

    if (is_pointwise) {
        columns = input_dims->c <= COLUMN_DEPTH ? stack.values : NULL;
    } else if (columns == NULL || groups * filter_dims->c != input_dims->c || channels % groups != 0) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    scaling.bias = bias_data;
    scaling.multiplier = quant_params->multiplier;
    scaling.shift = quant_params->shift;
    scaling.step = 1;
    scaling.offset = conv_params->output_offset;
    scaling.min = conv_params->activation.min;
    scaling.max = conv_params->activation.max;
    windows.params = conv_params;
    windows.filter_dims = filter_dims;
    windows.height = input_dims->h;
    windows.width = input_dims->w;
    windows.channels = input_dims->c;
    if (is_pointwise && stride.h == 1 && stride.w == 1) {
        /* Rows do not matter: as one, all but the last pixel come in pairs. */
        width *= height;
        height = 1;
        windows.width *= windows.height;
        windows.height = 1;
    }
    filters.scaling = &scaling;
    filters.depth = filter_dims->h * filter_dims->w * filter_dims->c;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t out_y = 0; out_y < height; out_y++) {
            const int32_t y = out_y * stride.h - conv_params->padding.h;
            int32_t x = -conv_params->padding.w;
            int32_t count;
            for (int32_t left = width; left > 0; left -= count) {
                count = left > 1 && columns ? 2 : 1;
                filters.weights = filter_data;
                filters.first = 0;
                windows.input = input_data;
                for (int32_t group = 0; group < groups; group++) {
                    filters.last = filters.first + channels / groups;
                    if (columns) {
                        qute_small_write_window(&windows, y, x, columns);
                        qute_small_write_window(
                            &windows, y, x + (count - 1) * stride.w, columns + QUTE_SMALL_OTHER_COLUMN);
                        qute_small_multiply_pair(&filters, columns, (count - 1) * channels, output_data);
                    } else {
                        const int8_t *pixel = input_data + (y * windows.width + x) * input_dims->c;
                        qute_small_multiply_pixel(&filters, pixel, conv_params->input_offset, 0, output_data);
                    }
                    filters.weights += (filters.last - filters.first) * filters.depth;
                    filters.first = filters.last;
                    windows.input += filter_dims->c;
                }
                x += count * stride.w;
                output_data += count * channels;
            }
        }
        input_data += input_dims->h * input_dims->w * input_dims->c;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
