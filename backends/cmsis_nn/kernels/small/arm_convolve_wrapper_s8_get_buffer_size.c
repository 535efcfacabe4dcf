// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *conv_params,
                                                const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims,
                                                const cmsis_nn_dims *output_dims)
{
    const int32_t depth = filter_dims->h * filter_dims->w * filter_dims->c;
    (void)output_dims;

    if (qute_small_is_pointwise(conv_params, input_dims, filter_dims)) {
        return 0;
    }
    /* Two columns of whole groups of four. */
    return 2 * ((depth + 3) & ~3) * (int32_t)sizeof(int16_t);
}
