// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

void qute_average_end_s8(
    const int32_t *sums, int32_t channels, int32_t count, int32_t minimum, int32_t maximum, int8_t *output)
{
    for (int32_t channel = 0; channel < channels; ++channel) {
        // Rounded half away from zero, as arm_avgpool_s8 does.
        const int32_t sum = sums[channel];
        const int32_t half = sum > 0 ? count / 2 : -(count / 2);
        const int32_t mean = (sum + half) / count;
        const int32_t low = mean < minimum ? minimum : mean;
        output[channel] = (int8_t)(low > maximum ? maximum : low);
    }
}
