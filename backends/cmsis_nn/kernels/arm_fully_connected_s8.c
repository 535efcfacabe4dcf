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
    const int32_t depth = filter_dims->n;
    const int32_t outputs = output_dims->c;
    qute_dot_layer layer = {filter_data,
                            depth,
                            outputs,
                            fc_params->input_offset,
                            0,
                            bias_data,
                            &quant_params->multiplier,
                            &quant_params->shift,
                            0,
                            fc_params->output_offset,
                            (int16_t *)ctx->buf,
                            ctx->buf == NULL ? 0 : ctx->size / 2};
    (void)bias_dims;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        if (fc_params->filter_offset != 0) {
            /* (x + o) (w + f) = (x + o) w + f (x + o), and the last term is the same for every output. */
            layer.common =
                qute_wrapping_mul(fc_params->filter_offset, sum_of_inputs(input_data, layer.input_offset, depth));
        }
        qute_dot_s8(&layer, input_data, output_data);
        qute_clamp_s8(output_data, outputs, fc_params->activation.min, fc_params->activation.max);
        input_data += depth;
        output_data += outputs;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
