// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_intrinsics.h"
#if QUTE_MVE
#include "qute_helium.h"
#define COPY_ROW(target, source, count) (void)qute_helium_copy_s8(target, source, count)
#else
#include <string.h>
#define COPY_ROW(target, source, count) memcpy(target, source, count)
#endif

void arm_concatenation_s8_x(const int8_t *input,
                            const uint16_t input_x,
                            const uint16_t input_y,
                            const uint16_t input_z,
                            const uint16_t input_w,
                            int8_t *output,
                            const uint16_t output_x,
                            const uint32_t offset_x)
{
    const uint32_t rows = (uint32_t)input_y * input_z * input_w;

    for (uint32_t row = 0; row < rows; row++) {
        COPY_ROW(output + offset_x + row * output_x, input + row * input_x, input_x);
    }
}
