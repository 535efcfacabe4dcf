// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>

typedef int16_t feature;

#include "qute_head_logits.h"

QUTE_NOINLINE int32_t dot_product(const feature *input, int32_t offset, const int8_t *weights, int32_t count)
{
    const int8_t *const end = weights + count;
    int32_t sum = 0;
#if QUTE_MVE
    __asm__("wlstp.16 lr, %[n], 2f\n"
            "1:\n\t"
            "vldrh.u16 q0, [%[x]], #16\n\t"
            "vldrb.s16 q1, [%[w]], #8\n\t"
            "vmladava.s16 %[sum], q0, q1\n\t"
            "letp lr, 1b\n"
            "2:"
            : [sum] "+Te"(sum), [x] "+r"(input), [w] "+l"(weights)
            : [n] "r"(count)
            : "q0", "q1", "lr", "memory", "cc");
    weights = end;
#elif QUTE_DSP
    const int8_t *const words = end - (count & 3);
    if (weights != words) {
        QUTE_ROLLED
        do {
            const uint32_t low = qute_load_s16x2(input);
            const uint32_t high = qute_load_s16x2(input + 2);
            const uint32_t word = qute_load_s8x4(weights);
            sum = qute_smlad(qute_sxtb16(word), qute_pkhbt((int32_t)low, (int32_t)high), sum);
            sum = qute_smlad(qute_sxtb16_odd(word), qute_pkhtb(high, low), sum);
            input += 4;
            weights += 4;
        } while (weights != words);
    }
#endif
    (void)offset;
    QUTE_ROLLED
    while (weights != end) {
        sum = qute_wrapping_add(sum, *input++ * *weights++);
    }
    return sum;
}

QUTE_SMALL void qute_head_logits_s16(const qute_head_logits_params *params, const int16_t *input, int32_t *output)
{
    qute_head_logits(params, input, output);
}
