// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"

#if QUTE_DSP

/* Bytes that add up to less than 2^15. */
#define MOST_PIXELS 255

/* Four channels of at most MOST_PIXELS pixels. */
static void add_four(const int8_t *row, int32_t pixels, int32_t channels, int32_t *sums)
{
    uint32_t even = 0;
    uint32_t odd = 0;
    for (int32_t pixel = pixels; pixel > 0; pixel--) {
        const uint32_t word = qute_load_s8x4(row);
        even = qute_sxtab16(even, word);
        odd = qute_sxtab16_odd(odd, word);
        row += channels;
    }
    sums[0] += (int16_t)even;
    sums[1] += (int16_t)odd;
    sums[2] += (int32_t)even >> 16;
    sums[3] += (int32_t)odd >> 16;
}

#endif

/* The pixels of one window. */
static void add_pixels(const int8_t *row, int32_t pixels, int32_t channels, int32_t *sums)
{
    int32_t channel = 0;
#if QUTE_DSP
    for (; pixels <= MOST_PIXELS && channel + 4 <= channels; channel += 4) {
        add_four(row + channel, pixels, channels, sums + channel);
    }
#endif
    for (; channel < channels; ++channel) {
        int32_t sum = sums[channel];
        for (int32_t pixel = 0; pixel < pixels; ++pixel) {
            sum += row[pixel * channels + channel];
        }
        sums[channel] = sum;
    }
}

void qute_average_row_s8(
    const int8_t *row, int32_t outputs, int32_t kernel, int32_t stride, int32_t channels, int32_t *sums)
{
    for (; outputs > 0; --outputs) {
        add_pixels(row, kernel, channels, sums);
        row += stride * channels;
        sums += channels;
    }
}
