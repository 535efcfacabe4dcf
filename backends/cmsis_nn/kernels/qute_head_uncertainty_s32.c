// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

#include "qute_requantize.h"

/* Fixed point throughout: Qn is a number times 2^n. Probabilities leave in Q30, entropies in Q16. */

#define FRACTION_BITS 20
/* An exponential in Q31 takes part in sums of exponentials, Q51, as long as a bit of it is left. */
#define SUM_EXTRA_BITS 20
/* Sums are below 2^13: 4096 classes give up to 2^12. */
#define MAX_EXPONENT 12U
#define LN_2_Q32 2977044472U
#define ONE_Q30 ((uint32_t)1 << 30)
#define ONE_Q31 ((uint32_t)1 << 31)

/* 2^(-i / 32) in Q31. */
static const uint32_t power_of_two[33] = {
    2147483648U, 2101467502U, 2056437387U, 2012372174U, 1969251188U, 1927054196U, 1885761398U, 1845353420U, 1805811301U,
    1767116489U, 1729250827U, 1692196547U, 1655936265U, 1620452965U, 1585730000U, 1551751076U, 1518500250U, 1485961921U,
    1454120821U, 1422962010U, 1392470869U, 1362633090U, 1333434672U, 1304861917U, 1276901417U, 1249540052U, 1222764986U,
    1196563654U, 1170923762U, 1145833280U, 1121280436U, 1097253708U, 1073741824U};

/* For m in [1 + i / 32, 1 + (i + 1) / 32) the entry of power_of_two that is near 1 / m; exactly 1 for m = 1. */
static const uint8_t reciprocal_index[32] = {0,  2,  3,  5,  6,  7,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18,
                                             19, 20, 21, 22, 23, 24, 25, 25, 26, 27, 28, 29, 29, 30, 31, 32};

QUTE_INLINE uint32_t mul_high(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

QUTE_INLINE int32_t signed_mul_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b) >> 32);
}

/* Of a value that is not 0. */
static uint32_t leading_zeros(uint32_t value)
{
#if defined(__GNUC__)
    return (uint32_t)__builtin_clz(value);
#else
    uint32_t count = 0;
    while (!(value & ONE_Q31)) {
        value <<= 1;
        count++;
    }
    return count;
#endif
}

/* 2^-f in Q31, f the fraction of x in Q20: a table for its upper 5 bits, a cubic for the lower 15. */
QUTE_INLINE uint32_t exp2_of_fraction(uint32_t x)
{
    const uint32_t rest = x << 17;
    const uint32_t power = power_of_two[(x >> 15) & 31U];
    const uint32_t slope = 93032633U - mul_high(rest, 1007539U - mul_high(rest, 7200U));
    return power - mul_high(power, mul_high(rest, slope));
}

/* log2(m) in Q26 for m in [1, 2) in Q31: m times a power near 1 / m is 1 + t, and log2(1 + t) a cubic. */
QUTE_NOINLINE uint32_t log2_of_mantissa(uint32_t m)
{
    const uint32_t i = reciprocal_index[(m >> 26) & 31U];
    const int32_t t = (int32_t)(mul_high(m, power_of_two[i]) - ONE_Q30) * 32;
    const int32_t second = 1549484860 - (signed_mul_high(t, 1020426366) >> 3);
    const int32_t first = 1549083842 - (signed_mul_high(t, second) >> 4);
    return (i << 21) + (uint32_t)(signed_mul_high(t, first) >> 7);
}

/* 1 / m in Q31 for m in [1, 2) in Q31: three Newton steps from the table. */
QUTE_COLD uint32_t reciprocal_of_mantissa(uint32_t m)
{
    uint32_t r = power_of_two[reciprocal_index[(m >> 26) & 31U]];
#pragma GCC unroll 1
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = (int32_t)(ONE_Q30 - mul_high(m, r));
        r += (uint32_t)(int32_t)(((int64_t)r * error) >> 30);
    }
    return r < ONE_Q31 ? r : ONE_Q31;
}

/* -log2(p) in Q26 for 0 < p <= 1 in Q30. */
QUTE_INLINE uint32_t bits_of_probability(uint32_t p)
{
    const uint32_t zeros = leading_zeros(p);
    return ((zeros - 1U) << 26) - log2_of_mantissa(p << zeros);
}

/* The softmax of one head: its largest logit, and the sum of exponentials as 2^exponent / inverse. */
typedef struct {
    int32_t max[QUTE_MAX_HEADS];
    uint32_t inverse[QUTE_MAX_HEADS];
    uint8_t exponent[QUTE_MAX_HEADS];
} softmaxes;

/* Adds head `k` to `heads`; returns the entropy of its softmax in nats, Q22. */
QUTE_NOINLINE uint32_t add_head(const int32_t *logits, int32_t classes, softmaxes *heads, int32_t k)
{
    int32_t max = logits[0];
    uint64_t sum = 0;
    uint64_t moment = 0;
    uint32_t exponent;
    uint32_t mantissa;
    uint32_t inverse;
    uint32_t mean;

    for (int32_t i = 1; i < classes; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (int32_t i = 0; i < classes; i++) {
        const uint32_t below = (uint32_t)max - (uint32_t)logits[i];
        const uint32_t octaves = below >> FRACTION_BITS;
        const uint32_t power = exp2_of_fraction(below);
        if (octaves <= SUM_EXTRA_BITS) {
            sum += (uint64_t)power * (((uint32_t)1 << SUM_EXTRA_BITS) >> octaves);
        } else if (octaves < SUM_EXTRA_BITS + 32) {
            sum += power >> (octaves - SUM_EXTRA_BITS);
        }
        if (octaves < 32) {
            moment += (uint64_t)(power >> octaves) * below;
        }
    }

    /* The largest logit itself adds 1 in Q51, so that the upper word is not 0. */
    exponent = MAX_EXPONENT - leading_zeros((uint32_t)(sum >> 32));
    mantissa = (uint32_t)(sum >> (SUM_EXTRA_BITS + exponent));
    inverse = reciprocal_of_mantissa(mantissa);
    heads->max[k] = max;
    heads->inverse[k] = inverse;
    heads->exponent[k] = (uint8_t)exponent;

    /* -log2 of a probability is log2 of the sum plus the distance to the maximum, whose mean is moment / sum. */
    mean = (uint32_t)(((moment >> (25U + exponent)) * inverse) >> 31);
    return mul_high((exponent << 26) + log2_of_mantissa(mantissa) + mean, LN_2_Q32) >> 4;
}

/* Makes inverse[k] the factor of head k in the mean, to one exponent for all heads, which is returned. */
QUTE_COLD uint32_t average(softmaxes *heads, int32_t count)
{
    const uint32_t divisor = (uint32_t)count;
    uint32_t least = MAX_EXPONENT;
#pragma GCC unroll 1
    for (int32_t k = 0; k < count; k++) {
        least = heads->exponent[k] < least ? heads->exponent[k] : least;
    }
#pragma GCC unroll 1
    for (int32_t k = 0; k < count; k++) {
        heads->inverse[k] = ((heads->inverse[k] + divisor / 2U) / divisor) >> (heads->exponent[k] - least);
    }
    return least;
}

/* The mean probability of a class, Q30; `logits` holds that of the first head, the others lie `classes` apart. */
QUTE_INLINE uint32_t mean_probability(
    const int32_t *logits, int32_t classes, const softmaxes *heads, int32_t count, uint32_t exponent)
{
    uint64_t sum = (uint64_t)ONE_Q31 << exponent;
    uint32_t probability;
#pragma GCC unroll 1
    for (int32_t k = 0; k < count; k++) {
        const uint32_t below = (uint32_t)heads->max[k] - (uint32_t)*logits;
        const uint32_t octaves = below >> FRACTION_BITS;
        if (octaves < 32) {
            sum += (uint64_t)(exp2_of_fraction(below) >> octaves) * heads->inverse[k];
        }
        logits += classes;
    }
    probability = (uint32_t)(sum >> 32) >> exponent;
    return probability < ONE_Q30 ? probability : ONE_Q30;
}

void qute_head_uncertainty_s32(
    const int32_t *logits, int32_t heads, int32_t classes, int32_t abstain_below, int32_t *output)
{
    softmaxes parts;
    uint32_t mean_entropy = 0;
    uint32_t exponent;
    uint64_t bits = 0;
    uint32_t entropy;
    int32_t label = 0;

#pragma GCC unroll 1
    for (int32_t k = 0; k < heads; k++) {
        mean_entropy += add_head(logits + k * classes, classes, &parts, k);
    }
    mean_entropy = (mean_entropy / (uint32_t)heads) << 4;
    exponent = average(&parts, heads);

    for (int32_t i = 0; i < classes; i++) {
        const uint32_t p = mean_probability(logits + i, classes, &parts, heads, exponent);
        if (p != 0) {
            bits += (uint64_t)p * bits_of_probability(p);
        }
        output[i] = (int32_t)p;
        label = output[i] > output[label] ? i : label;
    }
    entropy = mul_high((uint32_t)(bits >> 30), LN_2_Q32);

    output[classes] = label;
    output[classes + 1] = output[label];
    output[classes + 2] = (int32_t)((entropy + 512U) >> 10);
    output[classes + 3] = heads > 1 && entropy > mean_entropy ? (int32_t)((entropy - mean_entropy + 512U) >> 10) : 0;
    output[classes + 4] = output[label] < abstain_below ? 1 : 0;
}
