// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_scaling.h"
#if QUTE_MVE
#include "qute_helium_elementwise.h"
#endif

#if QUTE_DSP && !QUTE_MVE

typedef struct {
    uint32_t offset_pairs[2];
    uint32_t output[3];
} product_scaling;

/* count / 4 words of elements. */
QUTE_NOINLINE void multiply_words(
    const int8_t *first, const int8_t *second, const product_scaling *by, int8_t *output, int32_t count)
{
    const product_scaling scaling = *by;
    for (; count >= 4; count -= 4) {
        const uint32_t word_1 = qute_load_s8x4(first);
        const uint32_t word_2 = qute_load_s8x4(second);
        const uint32_t even_1 = qute_sxtab16(scaling.offset_pairs[0], word_1);
        const uint32_t odd_1 = qute_sxtab16_odd(scaling.offset_pairs[0], word_1);
        const uint32_t even_2 = qute_sxtab16(scaling.offset_pairs[1], word_2);
        const uint32_t odd_2 = qute_sxtab16_odd(scaling.offset_pairs[1], word_2);
        qute_sums products;
        products.of[0] = qute_smulbb(even_1, even_2);
        products.of[1] = qute_smulbb(odd_1, odd_2);
        products.of[2] = qute_smultt(even_1, even_2);
        products.of[3] = qute_smultt(odd_1, odd_2);
        qute_store_s8x4(output, qute_scale_four_alike(&products, scaling.output));
        first += 4;
        second += 4;
        output += 4;
    }
}

/* What has not the form above no network has: it need not be fast, but small. */
QUTE_COLD int32_t requantize(int32_t value, int32_t multiplier, int32_t shift)
{
    return qute_requantize(value, multiplier, shift);
}

#else

QUTE_INLINE int32_t requantize(int32_t value, int32_t multiplier, int32_t shift)
{
    return qute_requantize(value, multiplier, shift);
}

#endif

arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *input_1_vect,
                                           const int8_t *input_2_vect,
                                           const int32_t input_1_offset,
                                           const int32_t input_2_offset,
                                           int8_t *output,
                                           const int32_t out_offset,
                                           const int32_t out_mult,
                                           const int32_t out_shift,
                                           const int32_t out_activation_min,
                                           const int32_t out_activation_max,
                                           const int32_t block_size)
{
#if QUTE_MVE
    const qute_helium_result result = {out_mult, out_shift, out_offset, out_activation_min, out_activation_max};
    qute_helium_mul_s8(input_1_vect, input_1_offset, input_2_vect, input_2_offset, &result, output, block_size);
#else
#if QUTE_DSP
    /* Zero points are int8, so that products are below 2^16. */
    if (input_1_offset >= -127 && input_1_offset <= 128 && input_2_offset >= -127 && input_2_offset <= 128 &&
        qute_scaling_signs(out_mult, out_shift) >= 0) {
        const int32_t whole = block_size & ~3;
        const int32_t rest = block_size - whole;
        product_scaling by;
        by.offset_pairs[0] = qute_pair(input_1_offset);
        by.offset_pairs[1] = qute_pair(input_2_offset);
        (void)qute_store_scaling(by.output, out_mult, out_shift, out_offset);
        multiply_words(input_1_vect, input_2_vect, &by, output, block_size);
        if (rest > 0) {
            int8_t last[3][4];
            qute_store_s8x4(last[0], qute_load_s8_tail(input_1_vect + whole, rest));
            qute_store_s8x4(last[1], qute_load_s8_tail(input_2_vect + whole, rest));
            multiply_words(last[0], last[1], &by, last[2], 4);
            qute_store_s8_tail(output + whole, qute_load_s8x4(last[2]), rest);
        }
        qute_clamp_s8(output, block_size, out_activation_min, out_activation_max);
        return ARM_CMSIS_NN_SUCCESS;
    }
#endif
    for (int32_t i = 0; i < block_size; i++) {
        const int32_t product = (input_1_vect[i] + input_1_offset) * (input_2_vect[i] + input_2_offset);
        const int32_t value = qute_wrapping_add(requantize(product, out_mult, out_shift), out_offset);
        output[i] = (int8_t)qute_clamp(value, out_activation_min, out_activation_max);
    }
#endif
    return ARM_CMSIS_NN_SUCCESS;
}
