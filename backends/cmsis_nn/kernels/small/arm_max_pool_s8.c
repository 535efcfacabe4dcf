// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

QUTE_SMALL static int32_t maximum(
    const int8_t *input, int32_t rows, int32_t columns, int32_t row_step, int32_t column_step)
{
    int32_t best = INT8_MIN;
    input += columns * column_step;
    do {
        int32_t at = -columns * column_step;
        do {
            best = input[at] > best ? input[at] : best;
            at += column_step;
        } while (at != 0);
        input += row_step;
    } while (--rows > 0);
    return best;
}

QUTE_SMALL arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx,
                                               const cmsis_nn_pool_params *pool_params,
                                               const cmsis_nn_dims *input_dims,
                                               const int8_t *input_data,
                                               const cmsis_nn_dims *filter_dims,
                                               const cmsis_nn_dims *output_dims,
                                               int8_t *output_data)
{
    (void)ctx;
    return qute_small_pool(pool_params, input_dims, input_data, filter_dims, output_dims, maximum, output_data);
}
