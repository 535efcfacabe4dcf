// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

void qute_average_row_s8(
    const int8_t *row, int32_t outputs, int32_t kernel, int32_t stride, int32_t channels, int32_t *sums)
{
    for (; outputs > 0; --outputs) {
        const int8_t *pixel = row;
        for (int32_t left = kernel; left > 0; --left) {
            for (int32_t channel = 0; channel < channels; ++channel) {
                sums[channel] += pixel[channel];
            }
            pixel += channels;
        }
        row += stride * channels;
        sums += channels;
    }
}
