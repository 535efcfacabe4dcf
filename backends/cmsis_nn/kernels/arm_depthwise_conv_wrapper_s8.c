// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_depthwise.h"

static int32_t sum_of_window(
    const qute_depthwise_window *window, int32_t in_channel, int32_t out_channel, int32_t offset, int32_t sum)
{
    for (int32_t y = 0; y < window->rows; y++) {
        const int8_t *input = window->input + y * window->input_row_step + in_channel;
        const int8_t *filter = window->filter + y * window->filter_row_step + out_channel;
        for (int32_t x = window->columns; x > 0; x--) {
            sum = qute_wrapping_add(sum, (*input + offset) * *filter);
            input += window->input_column_step;
            filter += window->filter_column_step;
        }
    }
    return sum;
}

/* The input channels from `first` on, one at a time, with any channel multiplier. */
static void convolve_channels(const qute_depthwise *call, int32_t first)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    int8_t *output = call->output + call->row * call->output_dims->w * call->output_dims->c;
    qute_depthwise_window window;
    qute_depthwise_steps(call, &window);

    {
        const int32_t y = call->row * params->stride.h - params->padding.h;
        const qute_taps rows = qute_valid_taps(y, call->filter_dims->h, params->dilation.h, call->input_dims->h);
        for (int32_t out_x = 0; out_x < call->output_dims->w; out_x++) {
            const int32_t x = out_x * params->stride.w - params->padding.w;
            const qute_taps columns = qute_valid_taps(x, call->filter_dims->w, params->dilation.w, call->input_dims->w);
            int32_t out_channel = first * params->ch_mult;
            qute_depthwise_place(call, y, x, rows, columns, &window);
            for (int32_t in_channel = first; in_channel < call->input_dims->c; in_channel++) {
                for (int32_t m = 0; m < params->ch_mult; m++) {
                    const int32_t bias = call->bias ? call->bias[out_channel] : 0;
                    output[out_channel] =
                        qute_output_s8(sum_of_window(&window, in_channel, out_channel, params->input_offset, bias),
                                       call->quant->multiplier[out_channel],
                                       call->quant->shift[out_channel],
                                       params->output_offset,
                                       params->activation.min,
                                       params->activation.max);
                    out_channel++;
                }
            }
            output += call->output_dims->c;
        }
    }
}

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
    (void)ctx;
    (void)bias_dims;

    if (input_dims->c * dw_conv_params->ch_mult != output_dims->c) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    call.params = dw_conv_params;
    call.quant = quant_params;
    call.input_dims = input_dims;
    call.input = input_data;
    call.filter_dims = filter_dims;
    call.filter = filter_data;
    call.bias = bias_data;
    call.output_dims = output_dims;
    call.output = output_data;

    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (call.row = 0; call.row < output_dims->h; call.row++) {
            int32_t channel = 0;
#if QUTE_DSP
            for (; dw_conv_params->ch_mult == 1 && channel + 4 <= input_dims->c; channel += 4) {
                qute_depthwise_s8x4(&call, channel);
            }
#endif
            if (channel < input_dims->c) {
                convolve_channels(&call, channel);
            }
        }
        call.input += input_dims->h * input_dims->w * input_dims->c;
        call.output += output_dims->h * output_dims->w * output_dims->c;
    }
    return ARM_CMSIS_NN_SUCCESS;
}
