// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"
#include "qute_scaling.h"

#if QUTE_DSP

/* For channels whose parameters are out of the range of qute_scaling.h. */
QUTE_COLD void store_one_by_one(const qute_depthwise *call, int32_t channel, const int32_t sums[4], int8_t *output)
{
    for (int32_t i = 0; i < 4; i++) {
        const int32_t bias = call->bias ? call->bias[channel + i] : 0;
        output[i] = qute_output_s8(qute_wrapping_add(sums[i], bias),
                                   call->quant->multiplier[channel + i],
                                   call->quant->shift[channel + i],
                                   call->params->output_offset,
                                   call->params->activation.min,
                                   call->params->activation.max);
    }
}

void qute_depthwise_store_s8x4(const qute_depthwise *call, int32_t channel, const int32_t sums[4], int8_t *output)
{
    static const int32_t no_bias[4] = {0, 0, 0, 0};
    const int32_t *bias = call->bias ? call->bias + channel : no_bias;
    const int32_t *multiplier = call->quant->multiplier + channel;
    const int32_t *shift = call->quant->shift + channel;
    const int32_t offset = call->params->output_offset;
    const uint32_t low = 0x01010101U * (uint8_t)call->params->activation.min;
    const uint32_t high = 0x01010101U * (uint8_t)call->params->activation.max;
    uint32_t word = 0;
    if (!call->can_scale) {
        store_one_by_one(call, channel, sums, output);
        return;
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; i++) {
        const qute_scaling by = qute_make_scaling(multiplier[i], shift[i], offset);
        word |= (uint32_t)(uint8_t)qute_ssat8(qute_scale(sums[i] + bias[i], &by)) << (8 * i);
    }
    qute_store_s8x4(output, qute_min_s8x4(qute_max_s8x4(word, low), high));
}

#endif
