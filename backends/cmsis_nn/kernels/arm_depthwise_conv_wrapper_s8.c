// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_blocks.h"
#include "qute_depthwise.h"
#include "qute_scaling.h"
#if QUTE_MVE
#include "qute_helium_depthwise.h"
#endif

#if QUTE_DSP

#if QUTE_BLOCKS

/* The first channels, in fours, if all of them have multipliers and biases in range and shifts of 1 to 16 to the right;
 * how many. A call may be for a single row of a map: the check must not cost more than the row. */
QUTE_NOINLINE int32_t usual_channels(
    const int32_t *multiplier, const int32_t *shift, const int32_t *bias, int32_t count, uint32_t half)
{
    int32_t signs = 0;
    uint32_t biases = 0;
    uint32_t shifts = 0;
    int32_t left = count >> 2;
    for (; left > 0; left--) {
        __asm__("ldmia %[m]!, {r2, r3, r4, r5}\n\t"
                "orr %[signs], %[signs], r2\n\t"
                "orr r3, r3, r4\n\t"
                "orr %[signs], %[signs], r5\n\t"
                "orr %[signs], %[signs], r3\n\t"
                "ldmia %[s]!, {r2, r3, r4, r5}\n\t"
                "and r2, r2, r3\n\t"
                "orn %[shifts], %[shifts], r4\n\t"
                "orn %[shifts], %[shifts], r5\n\t"
                "orn %[shifts], %[shifts], r2\n\t"
                "ldmia %[b]!, {r2, r3, r4, r5}\n\t"
                "add r2, r2, %[half]\n\t"
                "add r3, r3, %[half]\n\t"
                "add r4, r4, %[half]\n\t"
                "add r5, r5, %[half]\n\t"
                "orr r2, r2, r3\n\t"
                "orr %[biases], %[biases], r4\n\t"
                "orr %[biases], %[biases], r5\n\t"
                "orr %[biases], %[biases], r2\n\t"
                : [m] "+&r"(multiplier), [s] "+&r"(shift), [b] "+&r"(bias), [signs] "+&r"(signs),
                  [shifts] "+&r"(shifts), [biases] "+&r"(biases)
                : [half] "r"(half)
                : "r2", "r3", "r4", "r5", "memory");
    }
    return signs >= 0 && shifts < 16 && biases < 2 * half ? count & ~3 : 0;
}

#endif

/* Whether qute_scaling holds for all channels: for a sum below 2^30 bias and products may take half of that each. */
static int can_scale(const qute_depthwise *call)
{
    const int32_t half = 1 << (QUTE_SCALING_VALUE_BITS - 1);
    const int32_t *multiplier = call->quant->multiplier;
    const int32_t *shift = call->quant->shift;
    /* Where there is no bias, shifts are as good: small. */
    const int32_t *bias = call->bias ? call->bias : shift;
    const int32_t count = call->output_dims->c;
    int32_t signs = 0;
    uint32_t biases = 0;
    int32_t i = 0;
#if QUTE_BLOCKS
    i = usual_channels(multiplier, shift, bias, count, (uint32_t)half);
#endif
    for (; i < count; i++) {
        signs |= qute_scaling_signs(multiplier[i], shift[i]);
        biases |= (uint32_t)bias[i] + (uint32_t)half;
    }
    return signs >= 0 && biases < 2 * (uint32_t)half &&
        call->filter_dims->h * call->filter_dims->w <= half / (255 * 128);
}

#endif

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx,
                                                  const cmsis_nn_dw_conv_params *dw_conv_params,
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
    qute_depthwise call;
    (void)bias_dims;

    if (input_dims->c * dw_conv_params->ch_mult != output_dims->c) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
#if QUTE_MVE
    if (ctx->buf == NULL && (dw_conv_params->ch_mult == 1 || qute_helium_depthwise_is_1(input_dims, output_dims))) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
#endif
    call.params = dw_conv_params;
    call.quant = quant_params;
    call.input_dims = input_dims;
    call.input = input_data;
    call.filter_dims = filter_dims;
    call.filter = filter_data;
    call.bias = bias_data;
    call.output_dims = output_dims;
    call.output = output_data;
    call.scratch = (uint32_t *)ctx->buf;
#if QUTE_DSP
    /* Others go channel by channel. */
    call.can_scale = (qute_depthwise_is_s8x4(dw_conv_params, input_dims) || dw_conv_params->ch_mult >= 4) &&
        ((bias_dims != NULL && bias_dims->n == QUTE_CHECKED_CONSTANTS) || can_scale(&call));
#endif

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        int32_t y = 0;
#if QUTE_MVE
        if (qute_helium_depthwise_is_1(input_dims, output_dims)) {
            qute_helium_depthwise_1_s8(&call, ctx->buf);
            y = output_dims->h;
        } else if (dw_conv_params->ch_mult == 1) {
            qute_helium_depthwise_s8(&call, ctx->buf);
            y = output_dims->h;
        }
#endif
        for (; y < output_dims->h; y++) {
#if QUTE_DEPTHWISE_S8X4
            if (qute_depthwise_is_s8x4(dw_conv_params, input_dims)) {
                qute_depthwise_row_s8x4(&call, y);
                continue;
            }
#endif
            qute_depthwise_row_s8(&call, y);
        }
        call.input += input_dims->h * input_dims->w * input_dims->c;
        call.output += output_dims->h * output_dims->w * output_dims->c;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
