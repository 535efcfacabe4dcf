// SPDX-License-Identifier: Apache-2.0
#include "arm_nnfunctions.h"
#include "qute_scaling.h"
#if QUTE_MVE
#include "qute_helium_elementwise.h"
#endif

#if QUTE_DSP && !QUTE_MVE

/* How an input is scaled: a positive multiplier and a right shift, on values below 2^30 after a left shift by one
 * more than the call says (see qute_scaling.h). In the order of reading. */
typedef struct {
    int32_t offset;
    int32_t left;
    int32_t multiplier;
    int32_t half;
    int32_t right;
    uint32_t flip;
} input_scaling;

typedef struct {
    input_scaling first;
    input_scaling second;
    uint32_t output[3];
} sum_scaling;

/* Whether a scaling can have that form; fills it. */
QUTE_COLD int make_input_scaling(
    int32_t offset, int32_t left_shift, int32_t multiplier, int32_t shift, input_scaling *by)
{
    by->offset = offset;
    by->flip = 0;
    by->left = left_shift + 1;
    by->multiplier = multiplier;
    by->right = -shift;
    if (multiplier < 0) {
        /* A difference: -m * (x + offset) is m * (~x + 1 - offset). */
        by->multiplier = -multiplier;
        by->offset = 1 - offset;
        by->flip = 0xffffffffU;
    }
    if (shift == 0 && by->multiplier == 1 << 30 && left_shift > 0) {
        /* The larger scale of a sum of two: exactly one half, with nothing to round, so one place can move. */
        by->left++;
        by->right = 1;
    }
    by->half = (int32_t)(1U << ((uint32_t)(by->right - 1) & 31U));
    /* Zero points are int8: inputs less zero point are below 2^8, scaled below 2^28, and their sum below 2^29. */
    return offset >= -127 && offset <= 128 && multiplier > INT32_MIN && left_shift >= 0 && left_shift <= 20 &&
        by->right >= 1 && by->right <= 31;
}

#define SCALE_INPUT(value)                                                                                             \
    "add %[t], %[h], " value ", asr #31\n\t"                                                                           \
    "lsl " value ", " value ", %[l]\n\t"                                                                               \
    "smmlar " value ", " value ", %[m], %[t]\n\t"                                                                      \
    "asr " value ", " value ", %[r]\n\t"

/* Four inputs, scaled. */
QUTE_INLINE qute_sums scale_inputs(uint32_t bytes, const input_scaling *by)
{
    qute_sums values;
    int32_t t, l, m, h, r;
    __asm__ volatile("ldrd %[t], %[l], [%[k]], #8\n\t"
                     "ldrd %[m], %[h], [%[k]], #8\n\t"
                     "ldr %[r], [%[k]]\n\t"
                     "sxtab %[s0], %[t], %[b]\n\t"
                     "sxtab %[s1], %[t], %[b], ror #8\n\t"
                     "sxtab %[s2], %[t], %[b], ror #16\n\t"
                     "sxtab %[s3], %[t], %[b], ror #24\n\t" SCALE_INPUT("%[s0]") SCALE_INPUT("%[s1]")
                         SCALE_INPUT("%[s2]") SCALE_INPUT("%[s3]")
                     : [s0] "=&r"(values.of[0]), [s1] "=&r"(values.of[1]), [s2] "=&r"(values.of[2]),
                       [s3] "=&r"(values.of[3]), [k] "+&r"(by), [t] "=&r"(t), [l] "=&r"(l), [m] "=&r"(m),
                       [h] "=&r"(h), [r] "=&r"(r)
                     : [b] "r"(bytes)
                     : "memory");
    return values;
}

/* Adds four inputs whose scale is one half, after a left shift of 20. */
QUTE_INLINE void add_halves(qute_sums *sums, uint32_t bytes, int32_t offset)
{
    int32_t t;
    __asm__("sxtab %[t], %[o], %[b]\n\t"
            "add %[s0], %[s0], %[t], lsl #19\n\t"
            "sxtab %[t], %[o], %[b], ror #8\n\t"
            "add %[s1], %[s1], %[t], lsl #19\n\t"
            "sxtab %[t], %[o], %[b], ror #16\n\t"
            "add %[s2], %[s2], %[t], lsl #19\n\t"
            "sxtab %[t], %[o], %[b], ror #24\n\t"
            "add %[s3], %[s3], %[t], lsl #19"
            : [s0] "+&r"(sums->of[0]), [s1] "+&r"(sums->of[1]), [s2] "+&r"(sums->of[2]), [s3] "+&r"(sums->of[3]),
              [t] "=&r"(t)
            : [o] "r"(offset), [b] "r"(bytes));
}

/* Four sums of a general and a halved input. */
QUTE_INLINE uint32_t add_with_half(uint32_t first, uint32_t second, const sum_scaling *by)
{
    qute_sums sums = scale_inputs(first ^ by->first.flip, &by->first);
    add_halves(&sums, second, by->second.offset);
    return qute_scale_four_alike(&sums, by->output);
}

QUTE_INLINE uint32_t add_general(uint32_t first, uint32_t second, const sum_scaling *by)
{
    qute_sums sums = scale_inputs(first ^ by->first.flip, &by->first);
    const qute_sums other = scale_inputs(second ^ by->second.flip, &by->second);
    for (int32_t i = 0; i < 4; i++) {
        sums.of[i] += other.of[i];
    }
    return qute_scale_four_alike(&sums, by->output);
}

/* count / 4 words of elements. */
typedef void add_words(const int8_t *first, const int8_t *second, const sum_scaling *by, int8_t *output, int32_t count);

QUTE_NOINLINE void add_words_with_half(
    const int8_t *first, const int8_t *second, const sum_scaling *by, int8_t *output, int32_t count)
{
    for (; count >= 4; count -= 4) {
        qute_store_s8x4(output, add_with_half(qute_load_s8x4(first), qute_load_s8x4(second), by));
        first += 4;
        second += 4;
        output += 4;
    }
}

QUTE_NOINLINE void add_general_words(
    const int8_t *first, const int8_t *second, const sum_scaling *by, int8_t *output, int32_t count)
{
    for (; count >= 4; count -= 4) {
        qute_store_s8x4(output, add_general(qute_load_s8x4(first), qute_load_s8x4(second), by));
        first += 4;
        second += 4;
        output += 4;
    }
}

static void add_all(add_words *add,
                    const int8_t *first,
                    const int8_t *second,
                    const sum_scaling *by,
                    int8_t *output,
                    int32_t count)
{
    const int32_t whole = count & ~3;
    add(first, second, by, output, count);
    if (whole < count) {
        int8_t last[3][4];
        qute_store_s8x4(last[0], qute_load_s8_tail(first + whole, count - whole));
        qute_store_s8x4(last[1], qute_load_s8_tail(second + whole, count - whole));
        add(last[0], last[1], by, last[2], 4);
        qute_store_s8_tail(output + whole, qute_load_s8x4(last[2]), count - whole);
    }
}

static int is_half(int32_t multiplier, int32_t shift, int32_t left_shift)
{
    return multiplier == 1 << 30 && shift == 0 && left_shift == 20;
}

#endif

typedef struct {
    const int8_t *values;
    int32_t offset;
    int32_t multiplier;
    int32_t shift;
} summand;

typedef struct {
    int8_t *values;
    int32_t offset;
    int32_t multiplier;
    int32_t shift;
    int32_t low;
    int32_t high;
} result;

/* The specification; with DSP instructions, for parameters that networks do not have. */
#if QUTE_DSP
QUTE_COLD
#else
static
#endif
void add_one_by_one(
    const summand *first, const summand *second, int32_t left_shift, const result *sum, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t raw_1 = qute_shift_left(first->values[i] + first->offset, left_shift);
        const int32_t raw_2 = qute_shift_left(second->values[i] + second->offset, left_shift);
        const int32_t value = qute_wrapping_add(qute_requantize(raw_1, first->multiplier, first->shift),
                                                qute_requantize(raw_2, second->multiplier, second->shift));
        sum->values[i] = qute_output_s8(value, sum->multiplier, sum->shift, sum->offset, sum->low, sum->high);
    }
}

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
#if QUTE_MVE
    const qute_helium_scale scale_1 = {input_1_offset, input_1_mult, input_1_shift};
    const qute_helium_scale scale_2 = {input_2_offset, input_2_mult, input_2_shift};
    const qute_helium_result requantized = {out_mult, out_shift, out_offset, out_activation_min, out_activation_max};
    if (qute_helium_add_s8(
            input_1_vect, &scale_1, input_2_vect, &scale_2, left_shift, &requantized, output, block_size)) {
        return ARM_CMSIS_NN_SUCCESS;
    }
#elif QUTE_DSP
    /* An input that is halved comes second. */
    const int is_first_half = is_half(input_1_mult, input_1_shift, left_shift);
    const int has_half = is_first_half || is_half(input_2_mult, input_2_shift, left_shift);
    sum_scaling by;
    if (make_input_scaling(
            input_1_offset, left_shift, input_1_mult, input_1_shift, is_first_half ? &by.second : &by.first) &&
        make_input_scaling(
            input_2_offset, left_shift, input_2_mult, input_2_shift, is_first_half ? &by.first : &by.second) &&
        qute_scaling_signs(out_mult, out_shift) >= 0) {
        (void)qute_store_scaling(by.output, out_mult, out_shift, out_offset);
        add_all(has_half ? add_words_with_half : add_general_words,
                is_first_half ? input_2_vect : input_1_vect,
                is_first_half ? input_1_vect : input_2_vect,
                &by,
                output,
                block_size);
        qute_clamp_s8(output, block_size, out_activation_min, out_activation_max);
        return ARM_CMSIS_NN_SUCCESS;
    }
#endif
    {
        const summand first = {input_1_vect, input_1_offset, input_1_mult, input_1_shift};
        const summand second = {input_2_vect, input_2_offset, input_2_mult, input_2_shift};
        const result sum = {output, out_offset, out_mult, out_shift, out_activation_min, out_activation_max};
        add_one_by_one(&first, &second, left_shift, &sum, block_size);
    }
    return ARM_CMSIS_NN_SUCCESS;
}
