// SPDX-License-Identifier: Apache-2.0
#include "qute_output.h"

QUTE_SMALL void qute_clamp_s8(int8_t *values, int32_t count, int32_t low, int32_t high)
{
    if (low <= INT8_MIN && high >= INT8_MAX) {
        return;
    }
#if QUTE_DSP
    {
        const uint32_t lows = ((uint32_t)low & 0xffU) * 0x01010101U;
        const uint32_t highs = ((uint32_t)high & 0xffU) * 0x01010101U;
        for (; count >= 4; count -= 4) {
            qute_store_s8x4(values, qute_min_s8x4(qute_max_s8x4(qute_load_s8x4(values), lows), highs));
            values += 4;
        }
    }
#endif
    for (; count > 0; count--) {
        *values = (int8_t)qute_clamp(*values, low, high);
        values++;
    }
}
