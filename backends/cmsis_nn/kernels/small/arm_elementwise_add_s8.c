// SPDX-License-Identifier: Apache-2.0
#include "qute_scaling.h"
#include "qute_small.h"

#if QUTE_SMALL_DSP

/* An input x as (x * factor + addend) * multiplier / 2^32, half of the divisor of the right shift added. See
 * qute_scaling.h. */
typedef struct {
    int32_t factor;
    int32_t addend;
    int32_t multiplier;
    int32_t half;
    int32_t right;
} input_scaling;

/* The order in which add_scaled reads. */
typedef struct {
    input_scaling first;
    input_scaling second;
    int32_t multiplier;
    int32_t addend;
    int32_t right;
} sum_scaling;

/* Whether a scaling can have that form; fills it. */
QUTE_SMALL QUTE_NOINLINE int make_input_scaling(
    int32_t offset, int32_t left_shift, int32_t multiplier, int32_t shift, input_scaling *by)
{
    int32_t left = left_shift + 1;
    int32_t right = -shift;
    if (right == 0 && multiplier == 1 << 30) {
        /* The larger scale of a sum of two: exactly one half, with nothing to round, so one place can move. */
        left++;
        right = 1;
    }
    by->factor = (int32_t)(1U << ((uint32_t)left & 31U));
    if (multiplier < 0) {
        /* A difference. */
        by->factor = qute_wrapping_mul(by->factor, -1);
        multiplier = -multiplier;
    }
    by->addend = qute_wrapping_mul(by->factor, offset);
    by->multiplier = multiplier;
    by->half = (int32_t)(1U << ((uint32_t)(right - 1) & 31U));
    by->right = right;
    /* Zero points are int8: inputs less zero point are below 2^8, scaled below 2^28, and their sum below 2^29. */
    return offset >= -127 && offset <= 128 && multiplier >= 0 && left_shift > 0 && left_shift <= 20 && right >= 1 &&
        right <= 31;
}

#define SCALE_INPUT(value, input, place)                                                                               \
    "ldrsb " value ", [%[" input "]], #1\n\t"                                                                          \
    "ldrd %[a], %[b], [%[k], #" #place "]\n\t"                                                                         \
    "ldrd %[m], %[h], [%[k], #" #place " + 8]\n\t"                                                                     \
    "mla " value ", " value ", %[a], %[b]\n\t"                                                                         \
    "ldr %[a], [%[k], #" #place " + 16]\n\t"                                                                           \
    "add %[h], %[h], " value ", asr #31\n\t"                                                                           \
    "smmlar " value ", " value ", %[m], %[h]\n\t"                                                                      \
    "asrs " value ", " value ", %[a]\n\t"

/* Saturated sums, 28 instructions each. */
QUTE_SMALL QUTE_NOINLINE void add_scaled(
    const int8_t *first, const int8_t *second, const sum_scaling *by, int8_t *output, int32_t count)
{
    int32_t v, w, a, b, m, h;
    if (count <= 0) {
        return;
    }
    __asm__ volatile("1:\n\t" SCALE_INPUT("%[v]", "x", 0) SCALE_INPUT("%[w]", "z", 20)
                     "ldrd %[m], %[h], [%[k], #40]\n\t"
                     "ldr %[a], [%[k], #48]\n\t"
                     "adds %[v], %[v], %[w]\n\t"
                     "add %[h], %[h], %[v], asr #31\n\t"
                     "lsls %[v], %[v], #1\n\t"
                     "smmlar %[v], %[v], %[m], %[h]\n\t"
                     "asrs %[v], %[v], %[a]\n\t"
                     "ssat %[v], #8, %[v]\n\t"
                     "strb %[v], [%[y]], #1\n\t"
                     "subs %[n], #1\n\t"
                     "bne 1b"
                     : [x] "+&r"(first), [z] "+&r"(second), [y] "+&r"(output), [n] "+&r"(count), [v] "=&l"(v),
                       [w] "=&l"(w), [a] "=&l"(a), [b] "=&r"(b), [m] "=&r"(m), [h] "=&r"(h)
                     : [k] "r"(by)
                     : "memory", "cc");
}

#endif

QUTE_SMALL arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *input_1_vect,
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
#if QUTE_SMALL_DSP
    sum_scaling by;
    if (make_input_scaling(input_1_offset, left_shift, input_1_mult, input_1_shift, &by.first) &&
        make_input_scaling(input_2_offset, left_shift, input_2_mult, input_2_shift, &by.second) &&
        qute_scaling_signs(out_mult, out_shift) >= 0) {
        const qute_scaling scaling = qute_make_scaling(out_mult, out_shift, out_offset);
        by.multiplier = scaling.multiplier;
        by.addend = scaling.addend;
        by.right = scaling.right;
        add_scaled(input_1_vect, input_2_vect, &by, output, block_size);
        qute_clamp_s8(output, block_size, out_activation_min, out_activation_max);
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
