// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"
#include "qute_window.h"

QUTE_SMALL arm_cmsis_nn_status qute_small_pool(const cmsis_nn_pool_params *params,
                                               const cmsis_nn_dims *input_dims,
                                               const int8_t *input,
                                               const cmsis_nn_dims *filter_dims,
                                               const cmsis_nn_dims *output_dims,
                                               qute_small_reduce *reduce,
                                               int8_t *output)
{
    const int32_t channels = input_dims->c;
    const int32_t row_step = input_dims->w * channels;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
            const int32_t y = out_y * params->stride.h - params->padding.h;
            const qute_taps rows = qute_valid_taps(y, filter_dims->h, 1, input_dims->h);
            for (int32_t out_x = 0; out_x < output_dims->w; out_x++) {
                const int32_t x = out_x * params->stride.w - params->padding.w;
                const qute_taps columns = qute_valid_taps(x, filter_dims->w, 1, input_dims->w);
                const int8_t *window = input + (y + rows.begin) * row_step + (x + columns.begin) * channels;
                int32_t height = rows.end - rows.begin;
                int32_t width = columns.end - columns.begin;
                if (height <= 0 || width <= 0) {
                    return ARM_CMSIS_NN_ARG_ERROR;
                }
                if (width == input_dims->w) {
                    /* Whole rows are one. */
                    width *= height;
                    height = 1;
                }
                for (int32_t channel = 0; channel < channels; channel++) {
                    *output++ = (int8_t)qute_clamp(reduce(window++, height, width, row_step, channels),
                                                   params->activation.min,
                                                   params->activation.max);
                }
            }
        }
        input += input_dims->h * row_step;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
