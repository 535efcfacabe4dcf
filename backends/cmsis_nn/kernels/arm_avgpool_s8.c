// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_requantize.h"
#include "qute_window.h"

/* sum / count, rounded half away from zero and clamped. */
static int8_t mean(int32_t sum, int32_t count, const cmsis_nn_activation *activation)
{
    const int32_t half = count / 2;
    const int32_t rounded = (sum > 0 ? sum + half : sum - half) / count;
    return (int8_t)qute_clamp(rounded, activation->min, activation->max);
}

#if QUTE_DSP

/* Pixels whose sum an int16 holds. */
#define MAX_PIXELS_IN_S16 255

/* Four channels at `window`. Pairs of channels are summed in 16 bits as long as they cannot overflow. */
static void mean_of_four(const int8_t *window,
                         int32_t rows,
                         int32_t columns,
                         int32_t row_pitch,
                         int32_t channels,
                         const cmsis_nn_activation *activation,
                         int8_t *output)
{
    int32_t sums[4] = {0, 0, 0, 0};

    for (int32_t y = 0; y < rows;) {
        uint32_t even = 0;
        uint32_t odd = 0;
        int32_t room = MAX_PIXELS_IN_S16;
        for (; y < rows && room >= columns; y++, room -= columns) {
            const int8_t *pixel = window + y * row_pitch;
            for (int32_t x = columns; x > 0; x--) {
                const uint32_t word = qute_load_s8x4(pixel);
                even = qute_sxtab16(even, word);
                odd = qute_sxtab16_odd(odd, word);
                pixel += channels;
            }
        }
        sums[0] += (int16_t)even;
        sums[1] += (int16_t)odd;
        sums[2] += (int32_t)even >> 16;
        sums[3] += (int32_t)odd >> 16;
    }
    for (int32_t i = 0; i < 4; i++) {
        output[i] = mean(sums[i], rows * columns, activation);
    }
}

#endif

/* The mean of a window of `rows` x `columns` pixels for all channels, clamped. Pitches are in bytes. */
static void mean_of_window(const int8_t *window,
                           int32_t rows,
                           int32_t columns,
                           int32_t row_pitch,
                           int32_t channels,
                           const cmsis_nn_activation *activation,
                           int8_t *output)
{
    int32_t channel = 0;

#if QUTE_DSP
    if (columns <= MAX_PIXELS_IN_S16) {
        for (; channel + 4 <= channels; channel += 4) {
            mean_of_four(window + channel, rows, columns, row_pitch, channels, activation, output + channel);
        }
    }
#endif

    for (; channel < channels; channel++) {
        int32_t sum = 0;
        for (int32_t y = 0; y < rows; y++) {
            const int8_t *pixel = window + y * row_pitch + channel;
            for (int32_t x = columns; x > 0; x--) {
                sum += *pixel;
                pixel += channels;
            }
        }
        output[channel] = mean(sum, rows * columns, activation);
    }
}

arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx,
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
                mean_of_window(input_data + (y + rows.begin) * row_pitch + (x + columns.begin) * channels,
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
