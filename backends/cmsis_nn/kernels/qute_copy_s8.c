// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

#include <string.h>

void qute_copy_s8(const int8_t *input,
                  const int32_t dims[4],
                  const int32_t input_strides[4],
                  const int32_t output_strides[4],
                  int8_t *output)
{
    const int contiguous = input_strides[3] == 1 && output_strides[3] == 1;

    /* Offsets rather than moving pointers: with negative strides a pointer past the last row would leave
     * the buffer, which C forbids even where it is not dereferenced. */
    for (int32_t i = 0; i < dims[0]; i++) {
        for (int32_t j = 0; j < dims[1]; j++) {
            for (int32_t k = 0; k < dims[2]; k++) {
                int32_t from = i * input_strides[0] + j * input_strides[1] + k * input_strides[2];
                int32_t to = i * output_strides[0] + j * output_strides[1] + k * output_strides[2];
                if (contiguous) {
                    memcpy(output + to, input + from, (size_t)dims[3]);
                    continue;
                }
                for (int32_t l = 0; l < dims[3]; l++) {
                    output[to] = input[from];
                    from += input_strides[3];
                    to += output_strides[3];
                }
            }
        }
    }
}
