// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_depthwise.h"

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *dw_conv_params,
                                                      const cmsis_nn_dims *input_dims,
                                                      const cmsis_nn_dims *filter_dims,
                                                      const cmsis_nn_dims *output_dims)
{
    (void)output_dims;
    return qute_depthwise_scratch(dw_conv_params, input_dims, filter_dims);
}
