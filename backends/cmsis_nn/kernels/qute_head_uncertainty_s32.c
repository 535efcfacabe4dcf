// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

#include "qute_requantize.h"

/* Fixed point throughout: Qn is a number times 2^n. Probabilities leave in Q30, entropies in Q16.
 *
 * Logits become what -log2 of a head's share in the mean is: their distance to the largest, plus log2 of the head's sum
 * of exponentials and of the number of heads. So there is no division, and a share comes with the logarithm that its
 * part of an entropy takes. */

#define FRACTION_BITS 20
#define LN_2_Q32 2977044472U
#define ONE_Q30 ((uint32_t)1 << 30)

/* Minimax: 2^-f = 1 - f * (c1 - f * (c2 - ...)) for 0 <= f < 1, in Q31; error 2^-29. */
static const uint32_t exp2_terms[] = {
    2147483648U, 1488522040U, 515878639U, 119168801U, 20577648U, 2743352U, 236086U};

/* Minimax: log2(1 + f) = f * (c1 - f * (c2 - ...)) for 0 <= f < 1, in Q31; error 2^-27. */
static const uint32_t log2_terms[] = {
    3098161928U, 1548991981U, 1031368517U, 764400338U, 575323445U, 393184562U, 210937589U, 73908142U, 12177207U};

#define COUNT_OF(terms) ((int32_t)(sizeof(terms) / sizeof((terms)[0])))

QUTE_INLINE uint32_t mul_high(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

/* terms[0] - x * (terms[1] - x * (...)), x in Q32. */
QUTE_INLINE uint32_t alternating_sum(const uint32_t *terms, int32_t count, uint32_t x)
{
    uint32_t sum = 0;
#pragma GCC unroll 9
    while (--count >= 0) {
        sum = terms[count] - mul_high(sum, x);
    }
    return sum;
}

/* 2^-bits in Q31; bits in Q26. */
QUTE_NOINLINE uint32_t power_of_half(uint32_t bits)
{
    const uint32_t power = alternating_sum(exp2_terms, COUNT_OF(exp2_terms), bits << 6);
    const uint32_t octaves = bits >> 26;
    return octaves < 32U ? power >> octaves : 0;
}

/* log2(value) in Q26, for value > 0. */
QUTE_NOINLINE uint32_t log2_of(uint64_t value)
{
    uint32_t octaves = 31U << 26;
    uint32_t rest;
    while ((value >> 32) != 0) {
        value >>= 1;
        octaves += 1U << 26;
    }
    rest = (uint32_t)value;
#if defined(__GNUC__)
    {
        const uint32_t zeros = (uint32_t)__builtin_clz(rest);
        rest <<= zeros;
        octaves -= zeros << 26;
    }
#else
    while (!(rest >> 31)) {
        rest <<= 1;
        octaves -= 1U << 26;
    }
#endif
    rest <<= 1;
    return octaves + (mul_high(alternating_sum(log2_terms, COUNT_OF(log2_terms), rest), rest) >> 5);
}

/* The softmax of one head. */
typedef struct {
    int32_t max;       /* the largest logit, Q20 */
    uint32_t log2_sum; /* log2 of the sum of 2^(logit - max) and of the number of heads, Q26 */
} softmax;

/* Minus log2 of what a class adds to the mean, Q26. */
QUTE_INLINE uint32_t bits_of(const softmax *head, int32_t logit)
{
    const uint32_t below = (uint32_t)head->max - (uint32_t)logit;
    /* 32 octaves below nothing is left of an exponential in Q31. */
    const uint32_t most = ((uint32_t)32 << FRACTION_BITS) - 1U;
    return ((below < most ? below : most) << (26 - FRACTION_BITS)) + head->log2_sum;
}

QUTE_NOINLINE void add_head(softmax *head, const int32_t *logits, int32_t classes, uint32_t log2_heads)
{
    uint64_t sum = 0;
    int32_t i;
    head->max = logits[0];
    head->log2_sum = 0;
    for (i = 1; i < classes; i++) {
        head->max = logits[i] > head->max ? logits[i] : head->max;
    }
    for (i = 0; i < classes; i++) {
        sum += power_of_half(bits_of(head, logits[i]));
    }
    head->log2_sum = log2_of(sum) - (31U << 26) + log2_heads;
}

/* From octaves in Q26 to nats in Q16. */
QUTE_COLD int32_t nats(uint32_t octaves)
{
    return (int32_t)((mul_high(octaves, LN_2_Q32) + 512U) >> 10);
}

void qute_head_uncertainty_s32(
    const int32_t *logits, int32_t heads, int32_t classes, int32_t abstain_below, int32_t *output)
{
    softmax head[QUTE_MAX_HEADS];
    const uint32_t log2_heads = log2_of((uint32_t)heads);
    uint64_t bits_of_heads = 0;
    uint64_t bits_of_mean = 0;
    uint32_t entropy;
    int32_t disagreement;
    int32_t label = 0;

    for (int32_t k = 0; k < heads; k++) {
        add_head(&head[k], logits + k * classes, classes, log2_heads);
    }
    for (int32_t i = 0; i < classes; i++) {
        uint32_t mean = 0;
        for (int32_t k = 0; k < heads; k++) {
            const uint32_t bits = bits_of(&head[k], logits[k * classes + i]);
            const uint32_t share = power_of_half(bits);
            mean += share;
            bits_of_heads += (uint64_t)share * bits;
        }
        mean = (mean + 1U) >> 1;
        mean = mean < ONE_Q30 ? mean : ONE_Q30;
        if (mean != 0) {
            bits_of_mean += (uint64_t)mean * ((30U << 26) - log2_of(mean));
        }
        output[i] = (int32_t)mean;
        label = output[i] > output[label] ? i : label;
    }

    entropy = (uint32_t)(bits_of_mean >> 30);
    disagreement = (int32_t)(entropy + log2_heads - (uint32_t)(bits_of_heads >> 31));
    output += classes;
    output[0] = label;
    output[1] = output[label - classes];
    output[2] = nats(entropy);
    output[3] = heads > 1 && disagreement > 0 ? nats((uint32_t)disagreement) : 0;
    output[4] = output[1] < abstain_below ? 1 : 0;
}
