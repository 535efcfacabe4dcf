// SPDX-License-Identifier: Apache-2.0
/* Kernels for which CMSIS-NN has no function. They link next to either library. */
#ifndef QUTE_KERNELS_H
#define QUTE_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* output[i] = table[input[i] + 128] for i < count; table has 256 entries. The output may be the input. */
void qute_lookup_s8(const int8_t *input, const int8_t *table, int8_t *output, int32_t count);

/* output[sum i_k * output_strides[k]] = input[sum i_k * input_strides[k]] for 0 <= i_k < dims[k], strides in
 * bytes. Strides may be negative, and 0 on the input side to repeat. Input and output do not overlap. */
void qute_copy_s8(const int8_t *input,
                  const int32_t dims[4],
                  const int32_t input_strides[4],
                  const int32_t output_strides[4],
                  int8_t *output);

/* output[i] = input[index[i]] for i < count. Input and output do not overlap. */
void qute_gather_s8(const int8_t *input, const uint16_t *index, int8_t *output, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
