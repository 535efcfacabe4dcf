// SPDX-License-Identifier: Apache-2.0
#include "qute_head_logits.h"

/* sums[r] = dot product of x with row r of the weights, rows `pitch` bytes apart. */
QUTE_NOINLINE void dot_two_rows(
    const int16_t *x, const int8_t *weights, int32_t depth, int32_t pitch, int32_t sums[2])
{
    int32_t first = 0;
    int32_t second = 0;
    int32_t i = 0;

#if QUTE_DSP
    for (; i + 4 <= depth; i += 4) {
        const uint32_t low = qute_load_s16x2(x + i);
        const uint32_t high = qute_load_s16x2(x + i + 2);
        const uint32_t even = (low & 0xffffU) | (high << 16);
        const uint32_t odd = (low >> 16) | (high & 0xffff0000U);
        const uint32_t w0 = qute_load_s8x4(weights + i);
        const uint32_t w1 = qute_load_s8x4(weights + i + pitch);
        first = qute_smlad(qute_sxtb16(w0), even, first);
        second = qute_smlad(qute_sxtb16(w1), even, second);
        first = qute_smlad(qute_sxtb16_odd(w0), odd, first);
        second = qute_smlad(qute_sxtb16_odd(w1), odd, second);
    }
#endif
#pragma GCC unroll 1
    for (; i < depth; i++) {
        const int32_t value = x[i];
        first = qute_wrapping_add(first, value * weights[i]);
        second = qute_wrapping_add(second, value * weights[i + pitch]);
    }
    sums[0] = first;
    sums[1] = second;
}

void qute_head_logits_s16(const qute_head_logits_params *params, const int16_t *input, int32_t *output)
{
    const int32_t classes = params->classes;
    const int32_t depth = params->inputs;
    const int32_t rows = classes < 2 ? classes : 2;
    int32_t index = 0;

    for (int32_t head = 0; head < params->heads; head++) {
        for (int32_t next = 0; next < classes; next += 2) {
            /* The last two classes may overlap those before; of a single one both sums are the same. */
            const int32_t row = index + (next + rows <= classes ? next : classes - rows);
            int32_t sums[2];
            dot_two_rows(input, params->weights + row * depth, depth, rows == 2 ? depth : 0, sums);
            qute_store_logits(params, sums, row, rows, output);
        }
        input += depth;
        index += classes;
    }
}
