// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_convolve.h"
#if QUTE_MVE
#include "qute_helium_product.h"
#endif

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *conv_params,
                                                const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims,
                                                const cmsis_nn_dims *output_dims)
{
    if (qute_is_pointwise(conv_params, input_dims, filter_dims)) {
        return 0;
    }
#if QUTE_MVE
    return qute_helium_convolve_scratch(filter_dims, output_dims);
#else
    (void)output_dims;
    return 2 * qute_column_length(filter_dims->h * filter_dims->w * filter_dims->c) * (int32_t)sizeof(int16_t);
#endif
}
