// SPDX-License-Identifier: Apache-2.0
/* What the two feature kernels share. */
#ifndef QUTE_HEAD_FEATURES_H
#define QUTE_HEAD_FEATURES_H

#include "qute_kernels.h"
#include "qute_requantize.h"

/* `value`, unknown to the compiler: it makes no copy of a loop for a step of 1. */
QUTE_INLINE int32_t qute_any(int32_t value)
{
#if defined(__GNUC__)
    __asm__("" : "+r"(value));
#endif
    return value;
}

/* One axis of a convolution. Steps are bytes from one pixel of the map, and from one tap of a kernel, to the next. */
typedef struct {
    int32_t size;
    int32_t taps;
    int32_t outputs;
    int32_t stride;
    int32_t padding;
    int32_t input_step;
    int32_t weight_step;
} qute_head_axis;

QUTE_INLINE qute_head_axis qute_head_rows(const qute_head_features_params *params)
{
    qute_head_axis axis;
    axis.size = params->input_height;
    axis.taps = params->kernel_height;
    axis.outputs = params->output_height;
    axis.stride = params->stride_height;
    axis.padding = params->padding_height;
    axis.input_step = qute_any(params->input_width * params->channels);
    axis.weight_step = qute_any(params->kernel_width * params->channels);
    return axis;
}

QUTE_INLINE qute_head_axis qute_head_columns(const qute_head_features_params *params)
{
    qute_head_axis axis;
    axis.size = params->input_width;
    axis.taps = params->kernel_width;
    axis.outputs = params->output_width;
    axis.stride = params->stride_width;
    axis.padding = params->padding_width;
    axis.input_step = qute_any(params->channels);
    axis.weight_step = qute_any(params->channels);
    return axis;
}

/* Sums over all output pixels as `count` features, from `index` (head * channels + channel) on, `step` apart. */
QUTE_COLD void qute_store_features(const qute_head_features_params *params,
                                       const int32_t *sums,
                                       int32_t count,
                                       int32_t index,
                                       int32_t step,
                                       int16_t *output)
{
#pragma GCC unroll 1
    for (; count > 0; count--) {
        const int32_t scaled = qute_requantize(*sums++, params->multiplier[index], params->shift[index]);
        output[index] = (int16_t)qute_clamp(scaled, INT16_MIN, INT16_MAX);
        index += step;
    }
}

#endif
