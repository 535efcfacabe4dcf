// SPDX-License-Identifier: Apache-2.0
#include "qute_helium_depthwise.h"
#include "qute_helium_product.h"

#if QUTE_MVE

/* The dims of the convolution's filters. */
static cmsis_nn_dims transposed_dims(const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims)
{
    const cmsis_nn_dims dims = {output_dims->c, filter_dims->h, filter_dims->w, 1};
    return dims;
}

int32_t qute_helium_depthwise_1_scratch(const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims)
{
    const cmsis_nn_dims dims = transposed_dims(filter_dims, output_dims);
    return qute_helium_convolve_scratch(&dims, output_dims) + dims.n * dims.h * dims.w;
}

void qute_helium_depthwise_1_s8(const qute_depthwise *call, void *scratch)
{
    const cmsis_nn_dims dims = transposed_dims(call->filter_dims, call->output_dims);
    const int32_t taps = dims.h * dims.w;
    const cmsis_nn_dw_conv_params *dw = call->params;
    const cmsis_nn_conv_params params = {
        dw->input_offset, dw->output_offset, dw->stride, dw->padding, dw->dilation, dw->activation};
    const qute_channels channels = {call->bias,
                                    call->quant->multiplier,
                                    call->quant->shift,
                                    dw->output_offset,
                                    dw->activation.min,
                                    dw->activation.max,
                                    0};
    int8_t *const filter = (int8_t *)scratch + qute_helium_convolve_scratch(&dims, call->output_dims);
    for (int32_t tap = 0; tap < taps; tap++) {
        for (int32_t channel = 0; channel < dims.n; channel++) {
            filter[channel * taps + tap] = call->filter[tap * dims.n + channel];
        }
    }
    qute_helium_convolve_s8(scratch,
                            &params,
                            &channels,
                            call->input_dims,
                            call->input,
                            &dims,
                            filter,
                            call->output_dims,
                            call->output);
}

#endif
