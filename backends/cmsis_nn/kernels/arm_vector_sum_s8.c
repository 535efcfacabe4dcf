// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_requantize.h"

arm_cmsis_nn_status arm_vector_sum_s8(int32_t *vector_sum_buf,
                                      const int32_t vector_cols,
                                      const int32_t vector_rows,
                                      const int8_t *vector_data,
                                      const int32_t lhs_offset,
                                      const int32_t rhs_offset,
                                      const int32_t *bias_data)
{
    for (int32_t row = 0; row < vector_rows; row++) {
        int32_t sum = qute_wrapping_mul(vector_cols, rhs_offset);
        for (int32_t column = 0; column < vector_cols; column++) {
            sum = qute_wrapping_add(sum, vector_data[column]);
        }
        vector_data += vector_cols;
        vector_sum_buf[row] = qute_wrapping_add(bias_data ? bias_data[row] : 0, qute_wrapping_mul(sum, lhs_offset));
    }
    return ARM_CMSIS_NN_SUCCESS;
}
