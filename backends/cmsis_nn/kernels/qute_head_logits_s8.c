// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>

typedef int8_t feature;

#include "qute_head_logits.h"

QUTE_NOINLINE int32_t dot_product(const feature *input, int32_t offset, const int8_t *weights, int32_t count)
{
    const int8_t *const end = weights + count;
    int32_t sum = 0;
#if QUTE_MVE
    __asm__("wlstp.16 lr, %[n], 2f\n"
            "1:\n\t"
            "vldrb.s16 q0, [%[x]], #8\n\t"
            "vldrb.s16 q1, [%[w]], #8\n\t"
            "vadd.i16 q0, q0, %[offset]\n\t"
            "vmladava.s16 %[sum], q0, q1\n\t"
            "letp lr, 1b\n"
            "2:"
            : [sum] "+Te"(sum), [x] "+l"(input), [w] "+l"(weights)
            : [n] "r"(count), [offset] "r"(offset)
            : "q0", "q1", "lr", "memory", "cc");
    weights = end;
#elif QUTE_DSP
    const uint32_t offset_pair = qute_pair(offset);
    const int8_t *const words = end - (count & 3);
    if (weights != words) {
        QUTE_ROLLED
        do {
            const uint32_t values = qute_load_s8x4(input);
            const uint32_t word = qute_load_s8x4(weights);
            sum = qute_smlad(qute_sxtb16(word), qute_sxtab16(offset_pair, values), sum);
            sum = qute_smlad(qute_sxtb16_odd(word), qute_sxtab16_odd(offset_pair, values), sum);
            input += 4;
            weights += 4;
        } while (weights != words);
    }
#endif
    QUTE_ROLLED
    while (weights != end) {
        sum = qute_wrapping_add(sum, (*input++ + offset) * *weights++);
    }
    return sum;
}

QUTE_SMALL void qute_head_logits_s8(const qute_head_logits_params *params, const int8_t *input, int32_t *output)
{
    qute_head_logits(params, input, output);
}
