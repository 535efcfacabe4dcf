// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_convolve.h"
#include "qute_scaling.h"
#if QUTE_MVE
#include "qute_helium_product.h"
#define CONVOLVE_1X1 qute_helium_convolve_1x1_s8
#define CONVOLVE qute_helium_convolve_s8
#else
#define CONVOLVE_1X1 qute_convolve_1x1_s8
#define CONVOLVE(columns, ...) qute_convolve_s8((int16_t *)(columns), __VA_ARGS__)
#endif

#if QUTE_BLOCKS && !QUTE_MVE

/* Bytes of columns on the stack: where five find room there or in the scratch, five pixels are computed at a time. */
#define COLUMN_BYTES 640

QUTE_COLD void convolve_on_stack(const cmsis_nn_conv_params *params,
                                     const qute_channels *channels,
                                     const cmsis_nn_dims *input_dims,
                                     const int8_t *input,
                                     const cmsis_nn_dims *filter_dims,
                                     const int8_t *filter,
                                     const cmsis_nn_dims *output_dims,
                                     int8_t *output)
{
    union {
        int32_t aligned;
        int16_t values[COLUMN_BYTES / 2];
    } columns;
    qute_convolve_five_s8(
        columns.values, params, channels, input_dims, input, filter_dims, filter, output_dims, output);
}

#endif

QUTE_SMALL arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx,
                                            const cmsis_nn_conv_params *conv_params,
                                            const cmsis_nn_per_channel_quant_params *quant_params,
                                            const cmsis_nn_dims *input_dims,
                                            const int8_t *input_data,
                                            const cmsis_nn_dims *filter_dims,
                                            const int8_t *filter_data,
                                            const cmsis_nn_dims *bias_dims,
                                            const int32_t *bias_data,
                                            const cmsis_nn_dims *output_dims,
                                            int8_t *output_data)
{
    qute_channels channels;
    int32_t groups;

    channels.bias = bias_data;
    channels.multiplier = quant_params->multiplier;
    channels.shift = quant_params->shift;
    channels.offset = conv_params->output_offset;
    channels.min = conv_params->activation.min;
    channels.max = conv_params->activation.max;
    channels.checked = bias_dims != NULL && bias_dims->n == QUTE_CHECKED_CONSTANTS;

    groups = input_dims->c / filter_dims->c;
#if QUTE_BLOCKS && !QUTE_MVE
    const int32_t depth = filter_dims->h * filter_dims->w * filter_dims->c;
    const int32_t needed = qute_five_bytes(depth);
    const int is_short = needed <= COLUMN_BYTES;
    const int has_scratch = ctx->buf != NULL && ctx->size >= needed;
    if (groups == 1 && (is_short || (has_scratch && !qute_can_multiply_strip(conv_params, input_dims, filter_dims))) &&
        qute_sums_can_scale(&channels, output_dims->c, depth)) {
        if (has_scratch) {
            qute_convolve_five_s8((int16_t *)ctx->buf,
                                  conv_params,
                                  &channels,
                                  input_dims,
                                  input_data,
                                  filter_dims,
                                  filter_data,
                                  output_dims,
                                  output_data);
        } else {
            convolve_on_stack(
                conv_params, &channels, input_dims, input_data, filter_dims, filter_data, output_dims, output_data);
        }
        return ARM_CMSIS_NN_SUCCESS;
    }
#endif
    if (qute_is_pointwise(conv_params, input_dims, filter_dims)) {
        CONVOLVE_1X1(conv_params, &channels, input_dims, input_data, filter_data, output_dims, output_data);
        return ARM_CMSIS_NN_SUCCESS;
    }
    if (ctx->buf == NULL || groups * filter_dims->c != input_dims->c || output_dims->c % groups != 0) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    CONVOLVE(ctx->buf,
             conv_params,
             &channels,
             input_dims,
             input_data,
             filter_dims,
             filter_data,
             output_dims,
             output_data);
    return ARM_CMSIS_NN_SUCCESS;
}
