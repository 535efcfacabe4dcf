// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_dot.h"
#include "qute_output.h"

/* The sum of (x + offset). */
QUTE_COLD int32_t sum_of_inputs(const int8_t *x, int32_t offset, int32_t depth)
{
    int32_t sum = depth * offset;
    for (int32_t i = 0; i < depth; i++) {
        sum += x[i];
    }
    return sum;
}

arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx,
                                           const cmsis_nn_fc_params *fc_params,
                                           const cmsis_nn_per_tensor_quant_params *quant_params,
                                           const cmsis_nn_dims *input_dims,
                                           const int8_t *input_data,
                                           const cmsis_nn_dims *filter_dims,
                                           const int8_t *filter_data,
                                           const cmsis_nn_dims *bias_dims,
                                           const int32_t *bias_data,
                                           const cmsis_nn_dims *output_dims,
                                           int8_t *output_data)
{
    const int32_t depth = filter_dims->n;
    const int32_t outputs = output_dims->c;
    const int32_t offset = fc_params->input_offset;
    const int32_t multiplier = quant_params->multiplier;
    const int32_t shift = quant_params->shift;
    (void)ctx;
    (void)bias_dims;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        /* (x + o) (w + f) = (x + o) w + f (x + o), and the last term is the same for every output. */
        const int32_t common = fc_params->filter_offset == 0
            ? 0
            : qute_wrapping_mul(fc_params->filter_offset, sum_of_inputs(input_data, offset, depth));
        for (int32_t output = 0; output < outputs; output += QUTE_DOT_ROWS) {
            const int32_t first = qute_first_row(output, outputs);
            const int32_t rows = outputs - first < QUTE_DOT_ROWS ? outputs - first : QUTE_DOT_ROWS;
            int32_t sums[QUTE_DOT_ROWS] = {common, common, common};
            for (int32_t r = 0; bias_data && r < rows; r++) {
                sums[r] = qute_wrapping_add(sums[r], bias_data[first + r]);
            }
            qute_dot_s8(input_data, offset, filter_data + first * depth, depth, rows, sums);
            for (int32_t r = 0; r < rows; r++) {
                output_data[first + r] = qute_saturated_output_s8(sums[r], multiplier, shift, fc_params->output_offset);
            }
        }
        qute_clamp_s8(output_data, outputs, fc_params->activation.min, fc_params->activation.max);
        input_data += depth;
        output_data += outputs;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
