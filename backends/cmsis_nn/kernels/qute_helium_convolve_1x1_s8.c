// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_product.h"

#if QUTE_MVE

void qute_helium_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                                 const qute_channels *channels,
                                 const cmsis_nn_dims *input_dims,
                                 const int8_t *input,
                                 const int8_t *filter,
                                 const cmsis_nn_dims *output_dims,
                                 int8_t *output)
{
    const int32_t depth = input_dims->c;
    const int32_t strided = params->stride.h != 1 || params->stride.w != 1;
    const int32_t row_pixels = strided ? output_dims->w : input_dims->h * input_dims->w;
    const int32_t rows = strided ? output_dims->h : 1;
    const int32_t step = params->stride.w * depth;
    const qute_helium_product product = {filter,
                                         depth,
                                         output_dims->c,
                                         channels->bias,
                                         params->input_offset,
                                         channels->multiplier,
                                         channels->shift,
                                         qute_helium_shifts_right(channels->shift, output_dims->c),
                                         channels->offset,
                                         channels->min,
                                         channels->max,
                                         output_dims->c};

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t row = 0; row < rows; row++) {
            const int8_t *pixel = input + row * params->stride.h * input_dims->w * depth;
            for (int32_t left = row_pixels; left > 0; left -= QUTE_HELIUM_PIXELS) {
                const int32_t count = left < QUTE_HELIUM_PIXELS ? left : QUTE_HELIUM_PIXELS;
                const int8_t *const windows[QUTE_HELIUM_PIXELS] = {pixel, pixel + step, pixel + 2 * step};
                qute_helium_product_s8(&product, windows, count, output);
                pixel += QUTE_HELIUM_PIXELS * step;
                output += count * output_dims->c;
            }
        }
        input += input_dims->h * input_dims->w * depth;
    }
}

#endif
