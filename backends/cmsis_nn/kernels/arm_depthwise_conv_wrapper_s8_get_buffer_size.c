// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_depthwise.h"
#if QUTE_MVE
#include "qute_helium_depthwise.h"
#endif

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *dw_conv_params,
                                                      const cmsis_nn_dims *input_dims,
                                                      const cmsis_nn_dims *filter_dims,
                                                      const cmsis_nn_dims *output_dims)
{
#if QUTE_MVE
    if (qute_helium_depthwise_is_1(input_dims, output_dims)) {
        return qute_helium_depthwise_1_scratch(filter_dims, output_dims);
    }
    if (dw_conv_params->ch_mult == 1) {
        return qute_helium_depthwise_scratch(input_dims, filter_dims);
    }
#endif
    (void)output_dims;
    return qute_depthwise_scratch(dw_conv_params, input_dims, filter_dims);
}
