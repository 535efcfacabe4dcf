// SPDX-License-Identifier: Apache-2.0
#include "qute_convolve.h"

void qute_widen_s16(
    const int8_t *pixel, int32_t depth, int32_t offset, int32_t column, int32_t columns, int16_t *values)
{
#if QUTE_DSP
    const uint32_t offset_pair = qute_pair(offset);
    const int32_t odd = 2 * columns;
    const int32_t tail = depth & 3;
    values += 2 * column;
    for (int32_t k = depth >> 2; k > 0; k--) {
        const uint32_t word = qute_load_s8x4(pixel);
        qute_store_s16x2(values, qute_sxtab16(offset_pair, word));
        qute_store_s16x2(values + odd, qute_sxtab16_odd(offset_pair, word));
        pixel += 4;
        values += 2 * odd;
    }
    if (tail > 0) {
        const uint32_t zero_points = ((uint32_t)-offset & 0xffU) * 0x01010101U;
        const uint32_t word = qute_load_s8_tail(pixel, tail) | (zero_points << (8 * tail));
        qute_store_s16x2(values, qute_sxtab16(offset_pair, word));
        qute_store_s16x2(values + odd, qute_sxtab16_odd(offset_pair, word));
    }
#else
    values += column;
    for (int32_t k = depth; k > 0; k--) {
        *values = (int16_t)(*pixel++ + offset);
        values += columns;
    }
#endif
}
