// SPDX-License-Identifier: Apache-2.0
#include "qute_pool.h"
#if QUTE_MVE
#include "qute_helium_pool.h"
#define MAX_OF_WINDOW qute_helium_max_s8
#else

#if QUTE_DSP

/* Four channels at `pixel`. */
QUTE_INLINE uint32_t max_of_four(const qute_pool_window *window, const int8_t *pixel, uint32_t best)
{
    const int32_t channels = window->channels;
    for (int32_t y = window->rows; y > 0; y--) {
        const int8_t *next = pixel + window->row_pitch;
        int32_t x = window->columns;
        for (; x >= 2; x -= 2) {
            best = qute_max_s8x4(qute_load_s8x4(pixel), best);
            best = qute_max_s8x4(qute_load_s8x4(pixel + channels), best);
            pixel += 2 * channels;
        }
        if (x > 0) {
            best = qute_max_s8x4(qute_load_s8x4(pixel), best);
        }
        pixel = next;
    }
    return best;
}

#endif

static void max_of_window(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output)
{
    int32_t channel = 0;

#if QUTE_DSP
    const uint32_t low = 0x01010101U * (uint8_t)activation->min;
    const uint32_t high = 0x01010101U * (uint8_t)activation->max;
    for (; channel + 4 <= window->channels; channel += 4) {
        const uint32_t best = max_of_four(window, window->input + channel, low);
        qute_store_s8x4(output + channel, qute_min_s8x4(best, high));
    }
#endif

    for (; channel < window->channels && window->rows == 2 && window->columns == 2; channel++) {
        const int8_t *pixel = window->input + channel;
        int32_t best = activation->min;
        best = pixel[0] > best ? pixel[0] : best;
        best = pixel[window->channels] > best ? pixel[window->channels] : best;
        pixel += window->row_pitch;
        best = pixel[0] > best ? pixel[0] : best;
        best = pixel[window->channels] > best ? pixel[window->channels] : best;
        output[channel] = (int8_t)(best < activation->max ? best : activation->max);
    }
    for (; channel < window->channels; channel++) {
        const int8_t *row = window->input + channel;
        int32_t best = activation->min;
        for (int32_t y = window->rows; y > 0; y--) {
            const int8_t *pixel = row;
            for (int32_t x = window->columns; x > 0; x--) {
                best = *pixel > best ? *pixel : best;
                pixel += window->channels;
            }
            row += window->row_pitch;
        }
        output[channel] = (int8_t)(best < activation->max ? best : activation->max);
    }
}

#define MAX_OF_WINDOW max_of_window
#endif

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx,
                                    const cmsis_nn_pool_params *pool_params,
                                    const cmsis_nn_dims *input_dims,
                                    const int8_t *input_data,
                                    const cmsis_nn_dims *filter_dims,
                                    const cmsis_nn_dims *output_dims,
                                    int8_t *output_data)
{
    (void)ctx;
    return qute_pool(pool_params, input_dims, input_data, filter_dims, output_dims, output_data, MAX_OF_WINDOW);
}
