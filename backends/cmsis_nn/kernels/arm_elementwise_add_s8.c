// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_requantize.h"

#if QUTE_DSP

/* Requantisation by a positive multiplier and a right shift, of values below 2^30 after `left`:
 * ((value << left) * multiplier / 2^32 + half) >> right, less one before the shift where value is negative.
 *
 * SMMLAR multiplies, rounds and adds `half` at once. It divides by 2^32, so that `left` is one more than the
 * call says; the doubled value must not overflow, which is why this is not for every call. */
typedef struct {
    int32_t left;
    int32_t multiplier;
    int32_t half;
    int32_t right;
} scaling;

QUTE_INLINE int32_t scale(int32_t value, const scaling *by)
{
    const int32_t product = qute_smmlar(qute_shift_left(value, by->left), by->multiplier, by->half);
    return (product + (value >> 31)) >> by->right;
}

/* Whether `by` can stand for a left shift, a multiplier and a shift; fills it. */
static int make_scaling(int32_t left_shift, int32_t multiplier, int32_t shift, scaling *by)
{
    by->left = left_shift + 1;
    by->multiplier = multiplier;
    by->right = -shift;
    if (shift == 0 && multiplier == 1 << 30 && left_shift > 0) {
        /* The larger scale of a sum of two: exactly one half, with nothing to round, so one place can move. */
        by->left++;
        by->right = 1;
    }
    by->half = (int32_t)(1U << ((uint32_t)(by->right - 1) & 31U));
    return multiplier > 0 && by->right >= 1 && by->right <= 31 && left_shift >= 0 && left_shift <= 20;
}

#endif

arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *input_1_vect,
                                           const int8_t *input_2_vect,
                                           const int32_t input_1_offset,
                                           const int32_t input_1_mult,
                                           const int32_t input_1_shift,
                                           const int32_t input_2_offset,
                                           const int32_t input_2_mult,
                                           const int32_t input_2_shift,
                                           const int32_t left_shift,
                                           int8_t *output,
                                           const int32_t out_offset,
                                           const int32_t out_mult,
                                           const int32_t out_shift,
                                           const int32_t out_activation_min,
                                           const int32_t out_activation_max,
                                           const int32_t block_size)
{
#if QUTE_DSP
    scaling by_1;
    scaling by_2;
    scaling by_out;
    /* Zero points are int8: inputs less zero point are below 2^8, scaled below 2^28, their sum below 2^29. */
    const int in_range = input_1_offset >= -127 && input_1_offset <= 128 && input_2_offset >= -127 &&
        input_2_offset <= 128 && make_scaling(left_shift, input_1_mult, input_1_shift, &by_1) &&
        make_scaling(left_shift, input_2_mult, input_2_shift, &by_2) && out_shift < 0 &&
        make_scaling(0, out_mult, out_shift, &by_out);
    if (in_range) {
        for (int32_t i = 0; i < block_size; i++) {
            const int32_t sum =
                scale(input_1_vect[i] + input_1_offset, &by_1) + scale(input_2_vect[i] + input_2_offset, &by_2);
            const int32_t value = scale(sum, &by_out) + out_offset;
            output[i] = (int8_t)qute_clamp(value, out_activation_min, out_activation_max);
        }
        return ARM_CMSIS_NN_SUCCESS;
    }
#endif
    for (int32_t i = 0; i < block_size; i++) {
        const int32_t raw_1 = qute_shift_left(input_1_vect[i] + input_1_offset, left_shift);
        const int32_t raw_2 = qute_shift_left(input_2_vect[i] + input_2_offset, left_shift);
        const int32_t sum = qute_wrapping_add(qute_requantize(raw_1, input_1_mult, input_1_shift),
                                              qute_requantize(raw_2, input_2_mult, input_2_shift));
        output[i] = qute_output_s8(sum, out_mult, out_shift, out_offset, out_activation_min, out_activation_max);
    }
    return ARM_CMSIS_NN_SUCCESS;
}
