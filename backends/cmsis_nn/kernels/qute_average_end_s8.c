// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

void qute_average_end_s8(
    const int32_t *sums, int32_t count, int32_t pixels, int32_t minimum, int32_t maximum, int8_t *output)
{
    for (int32_t i = 0; i < count; ++i) {
        // Rounded half away from zero, as arm_avgpool_s8 does.
        const int32_t half = sums[i] > 0 ? pixels / 2 : -(pixels / 2);
        const int32_t mean = (sums[i] + half) / pixels;
        const int32_t low = mean < minimum ? minimum : mean;
        output[i] = (int8_t)(low > maximum ? maximum : low);
    }
}
