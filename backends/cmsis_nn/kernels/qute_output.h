// SPDX-License-Identifier: Apache-2.0
/* Accumulators to int8 in two steps: requantise and saturate each, then clamp many bytes at once where the
 * activation is narrower than int8. Saturation costs one instruction, a clamp of each value would cost six. */
#ifndef QUTE_OUTPUT_H
#define QUTE_OUTPUT_H

#include "qute_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Clamps `count` bytes to low..high; returns at once where that is all of int8. */
void qute_clamp_s8(int8_t *values, int32_t count, int32_t low, int32_t high);

/* Requantised with a right shift of `exponent`, 1 to 31, offset added, saturated. */
QUTE_INLINE int8_t qute_shifted_output_s8(int32_t sum, int32_t multiplier, int32_t exponent, int32_t offset)
{
#if QUTE_THUMB2
    /* Both roundings and the offset: each bit that decides a rounding is left in the carry for the next ADC. */
    int32_t value;
    uint32_t low;
    __asm__("smull %1, %0, %2, %3\n\t"
            "lsrs %1, %1, #31\n\t"
            "adc %0, %1, %0, lsl #1\n\t"
            "add %0, %0, %0, asr #31\n\t"
            "asrs %0, %0, %4\n\t"
            "adc %0, %0, %5\n\t"
            "ssat %0, #8, %0"
            : "=&r"(value), "=&r"(low)
            : "r"(sum), "r"(multiplier), "r"(exponent), "r"(offset)
            : "cc");
    return (int8_t)value;
#else
    return qute_output_s8(sum, multiplier, -exponent, offset, INT8_MIN, INT8_MAX);
#endif
}

/* Left shifts are rare: kept out of the way. */
QUTE_COLD int8_t qute_unshifted_output_s8(int32_t sum, int32_t multiplier, int32_t shift, int32_t offset)
{
    return qute_output_s8(sum, multiplier, shift, offset, INT8_MIN, INT8_MAX);
}

/* Requantised, offset added, saturated. */
QUTE_INLINE int8_t qute_saturated_output_s8(int32_t sum, int32_t multiplier, int32_t shift, int32_t offset)
{
    return shift < 0 ? qute_shifted_output_s8(sum, multiplier, -shift, offset)
                     : qute_unshifted_output_s8(sum, multiplier, shift, offset);
}

/* Two channels of two pixels, `step` bytes apart; sums[c * 2 + p] belongs to channel c and pixel p. */
QUTE_INLINE void qute_put_block(const int32_t sums[4],
                                const int32_t multiplier[2],
                                const int32_t shift[2],
                                int32_t offset,
                                int8_t *output,
                                int32_t step)
{
    /* Read before anything is written, which the compiler cannot know to be elsewhere. */
    const int32_t multiplier0 = multiplier[0];
    const int32_t multiplier1 = multiplier[1];
    const int32_t shift0 = shift[0];
    const int32_t shift1 = shift[1];
    if ((shift0 & shift1) < 0) {
        output[0] = qute_shifted_output_s8(sums[0], multiplier0, -shift0, offset);
        output[step] = qute_shifted_output_s8(sums[1], multiplier0, -shift0, offset);
        output[1] = qute_shifted_output_s8(sums[2], multiplier1, -shift1, offset);
        output[step + 1] = qute_shifted_output_s8(sums[3], multiplier1, -shift1, offset);
    } else {
        output[0] = qute_unshifted_output_s8(sums[0], multiplier0, shift0, offset);
        output[step] = qute_unshifted_output_s8(sums[1], multiplier0, shift0, offset);
        output[1] = qute_unshifted_output_s8(sums[2], multiplier1, shift1, offset);
        output[step + 1] = qute_unshifted_output_s8(sums[3], multiplier1, shift1, offset);
    }
}

#ifdef __cplusplus
}
#endif

#endif
