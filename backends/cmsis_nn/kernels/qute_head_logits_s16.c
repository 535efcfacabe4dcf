// SPDX-License-Identifier: Apache-2.0
#include "qute_head_logits.h"

/* sums[r] = dot product of x with row r of the weights. The compiler keeps `sums` in registers, since `rows` is a
 * constant wherever this is inlined. */
QUTE_INLINE void dot_rows(const int16_t *x, const int8_t *weights, int32_t depth, int32_t *sums, const int32_t rows)
{
    int32_t i = 0;

    for (int32_t r = 0; r < rows; r++) {
        sums[r] = 0;
    }
#if QUTE_DSP
    for (; i + 4 <= depth; i += 4) {
        const uint32_t low = qute_load_s16x2(x + i);
        const uint32_t high = qute_load_s16x2(x + i + 2);
        const uint32_t even = (low & 0xffffU) | (high << 16);
        const uint32_t odd = (low >> 16) | (high & 0xffff0000U);
        const int8_t *row = weights + i;
        for (int32_t r = 0; r < rows; r++) {
            const uint32_t w = qute_load_s8x4(row);
            sums[r] = qute_smlad(qute_sxtb16(w), even, sums[r]);
            sums[r] = qute_smlad(qute_sxtb16_odd(w), odd, sums[r]);
            row += depth;
        }
    }
#endif
    for (; i < depth; i++) {
        for (int32_t r = 0; r < rows; r++) {
            sums[r] = qute_wrapping_add(sums[r], x[i] * weights[r * depth + i]);
        }
    }
}

void qute_head_logits_s16(const qute_head_logits_params *params, const int16_t *input, int32_t *output)
{
    const int8_t *weights = params->weights;
    int32_t index = 0;

    for (int32_t head = 0; head < params->heads; head++) {
        int32_t left = params->classes;
        while (left > 0) {
            const int32_t rows = left >= QUTE_LOGIT_ROWS ? QUTE_LOGIT_ROWS : 1;
            int32_t sums[QUTE_LOGIT_ROWS];
            if (rows == QUTE_LOGIT_ROWS) {
                dot_rows(input, weights, params->inputs, sums, QUTE_LOGIT_ROWS);
            } else {
                dot_rows(input, weights, params->inputs, sums, 1);
            }
            for (int32_t r = 0; r < rows; r++) {
                output[index] = qute_logit(params, sums[r], index);
                index++;
            }
            weights += rows * params->inputs;
            left -= rows;
        }
        input += params->inputs;
    }
}
