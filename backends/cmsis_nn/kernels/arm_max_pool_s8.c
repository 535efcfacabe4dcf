// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_requantize.h"
#include "qute_window.h"

/* The maximum of a window of `rows` x `columns` pixels for all channels, clamped. Pitches are in bytes. */
static void max_of_window(const int8_t *window,
                          int32_t rows,
                          int32_t columns,
                          int32_t row_pitch,
                          int32_t channels,
                          const cmsis_nn_activation *activation,
                          int8_t *output)
{
    int32_t channel = 0;

#if QUTE_DSP
    const uint32_t low = 0x01010101U * (uint8_t)activation->min;
    const uint32_t high = 0x01010101U * (uint8_t)activation->max;
    for (; channel + 4 <= channels; channel += 4) {
        uint32_t best = low;
        for (int32_t y = 0; y < rows; y++) {
            const int8_t *pixel = window + y * row_pitch + channel;
            for (int32_t x = columns; x > 0; x--) {
                best = qute_max_s8x4(qute_load_s8x4(pixel), best);
                pixel += channels;
            }
        }
        qute_store_s8x4(output + channel, qute_min_s8x4(best, high));
    }
#endif

    for (; channel < channels; channel++) {
        int32_t best = activation->min;
        for (int32_t y = 0; y < rows; y++) {
            const int8_t *pixel = window + y * row_pitch + channel;
            for (int32_t x = columns; x > 0; x--) {
                best = *pixel > best ? *pixel : best;
                pixel += channels;
            }
        }
        output[channel] = (int8_t)(best < activation->max ? best : activation->max);
    }
}

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx,
                                    const cmsis_nn_pool_params *pool_params,
                                    const cmsis_nn_dims *input_dims,
                                    const int8_t *input_data,
                                    const cmsis_nn_dims *filter_dims,
                                    const cmsis_nn_dims *output_dims,
                                    int8_t *output_data)
{
    const int32_t channels = input_dims->c;
    const int32_t row_pitch = input_dims->w * channels;
    (void)ctx;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
            const int32_t y = out_y * pool_params->stride.h - pool_params->padding.h;
            const qute_taps rows = qute_valid_taps(y, filter_dims->h, 1, input_dims->h);
            for (int32_t out_x = 0; out_x < output_dims->w; out_x++) {
                const int32_t x = out_x * pool_params->stride.w - pool_params->padding.w;
                const qute_taps columns = qute_valid_taps(x, filter_dims->w, 1, input_dims->w);
                if (rows.begin == rows.end || columns.begin == columns.end) {
                    return ARM_CMSIS_NN_ARG_ERROR;
                }
                max_of_window(input_data + (y + rows.begin) * row_pitch + (x + columns.begin) * channels,
                              rows.end - rows.begin,
                              columns.end - columns.begin,
                              row_pitch,
                              channels,
                              &pool_params->activation,
                              output_data);
                output_data += channels;
            }
        }
        input_data += input_dims->h * row_pitch;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
