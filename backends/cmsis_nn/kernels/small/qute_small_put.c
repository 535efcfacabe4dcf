// SPDX-License-Identifier: Apache-2.0
#include "qute_small.h"

/* What goes on from channel to channel. */
typedef struct {
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    const int32_t *sums;
    int8_t *output;
    int32_t count;
} progress;

#if QUTE_THUMB2 && defined(__OPTIMIZE__)

/* Saturated outputs of one channel or more, as long as shifts go right. Each bit that decides a rounding is left in the
 * carry for the next ADC. */
QUTE_INLINE void put_right_shifted(progress *at, int32_t offset)
{
    int32_t value, low, multiplier, shift;
    __asm__ volatile("1:\n\t"
                     "ldr %[s], [%[shift]], #4\n\t"
                     "negs %[s], %[s]\n\t"
                     "ble 2f\n\t"
                     "ldr %[m], [%[multiplier]], #4\n\t"
                     "ldr %[v], [%[sums]], #4\n\t"
                     "ldr %[l], [%[bias]], #4\n\t"
                     "add %[v], %[v], %[l]\n\t"
                     "smull %[l], %[v], %[v], %[m]\n\t"
                     "lsrs %[l], %[l], #31\n\t"
                     "adc %[v], %[l], %[v], lsl #1\n\t"
                     "add %[v], %[v], %[v], asr #31\n\t"
                     "asrs %[v], %[v], %[s]\n\t"
                     "adc %[v], %[v], %[offset]\n\t"
                     "ssat %[v], #8, %[v]\n\t"
                     "strb %[v], [%[output]], #1\n\t"
                     "subs %[count], #1\n\t"
                     "bne 1b\n"
                     "2:"
                     : [multiplier] "+&r"(at->multiplier), [sums] "+&r"(at->sums), [bias] "+&r"(at->bias),
                       [shift] "+&r"(at->shift), [output] "+&r"(at->output), [count] "+&r"(at->count),
                       [v] "=&r"(value), [l] "=&r"(low), [m] "=&r"(multiplier), [s] "=&r"(shift)
                     : [offset] "r"(offset)
                     : "memory", "cc");
    if (at->count > 0) {
        at->shift--;
    }
}

#else

QUTE_INLINE void put_right_shifted(progress *at, int32_t offset)
{
    (void)at;
    (void)offset;
}

#endif

QUTE_SMALL void qute_small_put(
    const qute_small_scaling *scaling, int32_t channel, int32_t count, const int32_t *sums, int8_t *output)
{
    const int32_t step = scaling->step;
    progress at;
    at.bias = scaling->bias ? scaling->bias + channel : NULL;
    at.multiplier = scaling->multiplier + channel * step;
    at.shift = scaling->shift + channel * step;
    at.sums = sums;
    at.output = output + channel;
    at.count = count;
    for (;;) {
        int32_t sum;
        if (at.bias && step && scaling->max - scaling->min == UINT8_MAX) {
            put_right_shifted(&at, scaling->offset);
        }
        if (at.count == 0) {
            return;
        }
        sum = *at.sums++;
        if (at.bias) {
            sum = qute_wrapping_add(sum, *at.bias++);
        }
        *at.output++ = qute_output_s8(sum, *at.multiplier, *at.shift, scaling->offset, scaling->min, scaling->max);
        at.multiplier += step;
        at.shift += step;
        at.count--;
        if (at.count == 0) {
            return;
        }
    }
}
