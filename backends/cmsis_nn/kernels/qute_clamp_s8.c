// SPDX-License-Identifier: Apache-2.0
#include "qute_output.h"

void qute_clamp_s8(int8_t *values, int32_t count, int32_t low, int32_t high)
{
    int32_t i = 0;
    if (low <= INT8_MIN && high >= INT8_MAX) {
        return;
    }
#if QUTE_DSP
    {
        const uint32_t lows = ((uint32_t)low & 0xffU) * 0x01010101U;
        const uint32_t highs = ((uint32_t)high & 0xffU) * 0x01010101U;
        for (; i + 4 <= count; i += 4) {
            const uint32_t word = qute_load_s8x4(values + i);
            qute_store_s8x4(values + i, qute_min_s8x4(qute_max_s8x4(word, lows), highs));
        }
    }
#endif
    for (; i < count; i++) {
        values[i] = (int8_t)qute_clamp(values[i], low, high);
    }
}
