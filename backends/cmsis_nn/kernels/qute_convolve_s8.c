// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"
#include "qute_output.h"

/* Two output pixels at a time: their windows are written as int16 columns, which are multiplied with the filters of
 * all channels. Four at a time where their windows overlap enough to be written as a strip. */

QUTE_SMALL void qute_convolve_s8(int16_t *columns,
                      const cmsis_nn_conv_params *params,
                      const qute_channels *channels,
                      const cmsis_nn_dims *input_dims,
                      const int8_t *input,
                      const cmsis_nn_dims *filter_dims,
                      const int8_t *filter,
                      const cmsis_nn_dims *output_dims,
                      int8_t *output)
{
    const int32_t depth = filter_dims->h * filter_dims->w * filter_dims->c;
    const int32_t groups = input_dims->c / filter_dims->c;
    const int32_t group_channels = output_dims->c / groups;
    const qute_rest no_rest = {NULL, 0, 0, 0};
    qute_windows windows = {params, input_dims, filter_dims, input, 0, {0, 0}};
    const int32_t can_strip = groups == 1 && qute_can_multiply_strip(params, input_dims, filter_dims) &&
        qute_sums_can_scale(channels, output_dims->c, depth);
    qute_product product = {channels, filter, depth, 0, group_channels, output_dims->c};

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        windows.y = -params->padding.h;
        for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
            int32_t x = -params->padding.w;
            int32_t left = output_dims->w;
            windows.rows = qute_valid_taps(windows.y, filter_dims->h, params->dilation.h, input_dims->h);
            while (left > 0) {
                const int32_t count = can_strip && left >= QUTE_STRIP ? QUTE_STRIP : left >= 2 ? 2 : 1;
                windows.input = input;
                product.weights = filter;
                product.first = 0;
                for (int32_t group = 0; group < groups; group++) {
                    product.last = product.first + group_channels;
#if QUTE_BLOCKS
                    if (count == QUTE_STRIP) {
                        qute_window_strip_s16(&windows, x, columns);
                        qute_multiply_strip_s16(&product, columns, filter_dims->h, output);
                        break;
                    }
#endif
                    if (count == 2) {
                        qute_window_pair_s16(&windows, x, columns);
                        qute_multiply_pair_s16(&product, columns, &no_rest, output);
                    } else {
                        qute_window_column_s16(&windows, x, 0, 1, columns);
                        qute_multiply_single_s16(&product, columns, output);
                    }
                    windows.input += filter_dims->c;
                    product.weights += group_channels * depth;
                    product.first = product.last;
                }
                qute_clamp_s8(output, count * output_dims->c, channels->min, channels->max);
                output += count * output_dims->c;
                x += count * params->stride.w;
                left -= count;
            }
            windows.y += params->stride.h;
        }
        input += input_dims->h * input_dims->w * input_dims->c;
    }
}
