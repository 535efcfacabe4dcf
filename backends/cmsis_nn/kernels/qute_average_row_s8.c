// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

void qute_average_row_s8(const int8_t *row, int32_t pixels, int32_t channels, int32_t *sums)
{
    for (int32_t pixel = 0; pixel < pixels; ++pixel) {
        for (int32_t channel = 0; channel < channels; ++channel) {
            sums[channel] += row[channel];
        }
        row += channels;
    }
}
