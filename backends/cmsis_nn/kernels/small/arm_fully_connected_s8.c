// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

QUTE_SMALL arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx,
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
    const int32_t offset = fc_params->input_offset;
    qute_small_scaling scaling;
    qute_small_filters filters;
    (void)ctx;
    (void)bias_dims;

    scaling.bias = bias_data;
    scaling.multiplier = &quant_params->multiplier;
    scaling.shift = &quant_params->shift;
    scaling.step = 0;
    scaling.offset = fc_params->output_offset;
    scaling.min = fc_params->activation.min;
    scaling.max = fc_params->activation.max;
    filters.scaling = &scaling;
    filters.weights = filter_data;
    filters.depth = filter_dims->n;
    filters.first = 0;
    filters.last = output_dims->c;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        /* (x + o) (w + f) = (x + o) w + f (x + o), and the last term is the same for every output. */
        int32_t sum = 0;
        for (int32_t i = 0; fc_params->filter_offset != 0 && i < filters.depth; i++) {
            sum += input_data[i] + offset;
        }
        qute_small_multiply_pixel(
            &filters, input_data, offset, qute_wrapping_mul(fc_params->filter_offset, sum), output_data);
        input_data += filters.depth;
        output_data += filters.last;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
