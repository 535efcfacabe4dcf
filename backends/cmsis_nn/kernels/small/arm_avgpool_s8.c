// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* The sum divided by the count, rounded half away from zero. */
QUTE_SMALL static int32_t mean(
    const int8_t *input, int32_t rows, int32_t columns, int32_t row_step, int32_t column_step)
{
    const int32_t count = rows * columns;
    const int32_t half = count / 2;
    int32_t sum = 0;
    input += columns * column_step;
    do {
        int32_t at = -columns * column_step;
        do {
            sum += input[at];
            at += column_step;
        } while (at != 0);
        input += row_step;
    } while (--rows > 0);
    return (sum > 0 ? sum + half : sum - half) / count;
}

QUTE_SMALL arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx,
                                              const cmsis_nn_pool_params *pool_params,
                                              const cmsis_nn_dims *input_dims,
                                              const int8_t *input_data,
                                              const cmsis_nn_dims *filter_dims,
                                              const cmsis_nn_dims *output_dims,
                                              int8_t *output_data)
{
    (void)ctx;
    return qute_small_pool(pool_params, input_dims, input_data, filter_dims, output_dims, mean, output_data);
}
