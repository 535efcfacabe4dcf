// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

void qute_gather_s8(const int8_t *input, const uint16_t *index, int8_t *output, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        output[i] = input[index[i]];
    }
}
