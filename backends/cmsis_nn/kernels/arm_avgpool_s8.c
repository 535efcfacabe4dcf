// SPDX-License-Identifier: Apache-2.0
#include "qute_pool.h"
#if QUTE_MVE
#include "qute_helium_pool.h"
#define MEAN_OF_WINDOW qute_helium_mean_s8
#else

/* sum / count, rounded half away from zero. */
QUTE_INLINE int32_t mean(int32_t sum, int32_t count)
{
    const int32_t half = count / 2;
    return (sum > 0 ? sum + half : sum - half) / count;
}

#if QUTE_DSP

/* Pixels whose sum an int16 holds. */
#define MAX_PIXELS_IN_S16 255

/* Sums of bytes 0 and 2, and of bytes 1 and 3, as pairs of int16. */
typedef struct {
    uint32_t even;
    uint32_t odd;
} pairs;

QUTE_INLINE void add_pixel(pairs *sums, const int8_t *pixel)
{
    const uint32_t word = qute_load_s8x4(pixel);
    sums->even = qute_sxtab16(sums->even, word);
    sums->odd = qute_sxtab16_odd(sums->odd, word);
}

QUTE_INLINE void add_pairs(int32_t sums[4], const pairs *addend)
{
    sums[0] += (int16_t)addend->even;
    sums[1] += (int16_t)addend->odd;
    sums[2] += (int32_t)addend->even >> 16;
    sums[3] += (int32_t)addend->odd >> 16;
}

/* Four channels at `row`, which are summed in 16 bits as long as they cannot overflow. */
QUTE_INLINE void sum_of_four(const qute_pool_window *window, const int8_t *row, int32_t sums[4])
{
    const int32_t channels = window->channels;
    pairs part = {0, 0};
    int32_t room = MAX_PIXELS_IN_S16;
    for (int32_t y = window->rows; y > 0; y--) {
        const int8_t *pixel = row;
        int32_t left = window->columns;
        while (left > 0) {
            int32_t count = left < room ? left : room;
            left -= count;
            room -= count;
            for (; count >= 4; count -= 4) {
                add_pixel(&part, pixel);
                add_pixel(&part, pixel + channels);
                pixel += 2 * channels;
                add_pixel(&part, pixel);
                add_pixel(&part, pixel + channels);
                pixel += 2 * channels;
            }
            for (; count > 0; count--) {
                add_pixel(&part, pixel);
                pixel += channels;
            }
            if (room == 0) {
                add_pairs(sums, &part);
                part.even = 0;
                part.odd = 0;
                room = MAX_PIXELS_IN_S16;
            }
        }
        row += window->row_pitch;
    }
    add_pairs(sums, &part);
}

#endif

QUTE_SMALL static void mean_of_window(const qute_pool_window *window, const cmsis_nn_activation *activation, int8_t *output)
{
    const int32_t count = window->rows * window->columns;
    int32_t channel = 0;

#if QUTE_DSP
    const uint32_t low = 0x01010101U * (uint8_t)activation->min;
    const uint32_t high = 0x01010101U * (uint8_t)activation->max;
    for (; channel + 4 <= window->channels; channel += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        uint32_t word = 0;
        sum_of_four(window, window->input + channel, sums);
        for (int32_t i = 0; i < 4; i++) {
            word |= (uint32_t)(uint8_t)mean(sums[i], count) << (8 * i);
        }
        qute_store_s8x4(output + channel, qute_min_s8x4(qute_max_s8x4(word, low), high));
    }
#endif

    for (; channel < window->channels; channel++) {
        const int8_t *row = window->input + channel;
        int32_t sum = 0;
        for (int32_t y = window->rows; y > 0; y--) {
            const int8_t *pixel = row;
            for (int32_t x = window->columns; x > 0; x--) {
                sum += *pixel;
                pixel += window->channels;
            }
            row += window->row_pitch;
        }
        output[channel] = (int8_t)qute_clamp(mean(sum, count), activation->min, activation->max);
    }
}

#define MEAN_OF_WINDOW mean_of_window
#endif

QUTE_SMALL arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx,
                                   const cmsis_nn_pool_params *pool_params,
                                   const cmsis_nn_dims *input_dims,
                                   const int8_t *input_data,
                                   const cmsis_nn_dims *filter_dims,
                                   const cmsis_nn_dims *output_dims,
                                   int8_t *output_data)
{
    (void)ctx;
    return qute_pool(pool_params, input_dims, input_data, filter_dims, output_dims, output_data, MEAN_OF_WINDOW);
}
