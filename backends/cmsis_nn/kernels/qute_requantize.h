// SPDX-License-Identifier: Apache-2.0
/* Requantisation with double rounding: the fixed-point arithmetic of the TensorFlow Lite int8 specification.
 *
 * All of it wraps like the hardware where an argument is out of range, and no signed overflow can occur.
 */
#ifndef QUTE_REQUANTIZE_H
#define QUTE_REQUANTIZE_H

#include "qute_intrinsics.h"

QUTE_INLINE int32_t qute_wrapping_add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

QUTE_INLINE int32_t qute_wrapping_mul(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}

QUTE_INLINE int32_t qute_shift_left(int32_t value, int32_t count)
{
    return (int32_t)((uint32_t)value << (uint32_t)count);
}

QUTE_INLINE int32_t qute_clamp(int32_t value, int32_t low, int32_t high)
{
    if (value < low) {
        value = low;
    }
    if (value > high) {
        value = high;
    }
    return value;
}

/* a * b / 2^31, rounded half up. Only INT32_MIN * INT32_MIN is out of range. */
QUTE_INLINE int32_t qute_doubling_high_mul(int32_t a, int32_t b)
{
#if QUTE_THUMB2
    /* The last bit shifted out of the low word is the rounding bit, and ADC adds it for nothing. */
    int32_t high;
    uint32_t low;
    __asm__("smull %1, %0, %2, %3\n\tlsrs %1, %1, #31\n\tadc %0, %1, %0, lsl #1"
            : "=&r"(high), "=&r"(low)
            : "r"(a), "r"(b)
            : "cc");
    return high;
#elif defined(__thumb__)
    /* Armv6-M multiplies 32 bits to 32: in halves, which takes half of what a 64-bit product from a library takes. */
    const uint32_t a_low = (uint32_t)a & 0xffffU;
    const uint32_t b_low = (uint32_t)b & 0xffffU;
    const int32_t a_high = a >> 16;
    const int32_t b_high = b >> 16;
    const uint32_t low = a_low * b_low;
    const uint32_t first = (uint32_t)a_high * b_low + (low >> 16);
    const uint32_t second = a_low * (uint32_t)b_high + (first & 0xffffU);
    const uint32_t high = (uint32_t)(a_high * b_high) + (uint32_t)((int32_t)first >> 16) + (uint32_t)((int32_t)second >> 16);
    /* Bits 31 and 30 of the product's low word are bits 15 and 14 of `second`. */
    return (int32_t)((high << 1) + ((((second >> 14) & 3U) + 1U) >> 1));
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
#endif
}

/* value / 2^exponent, rounded half away from zero, for 1 <= exponent <= 31 and value > INT32_MIN. */
QUTE_INLINE int32_t qute_rounding_divide_by_pot(int32_t value, int32_t exponent)
{
    const int32_t toward_zero = qute_wrapping_add(value, value >> 31);
#if QUTE_THUMB2
    int32_t result;
    __asm__("asrs %0, %1, %2\n\tadc %0, %0, #0" : "=r"(result) : "r"(toward_zero), "r"(exponent) : "cc");
    return result;
#else
    return (toward_zero >> exponent) + ((toward_zero >> (exponent - 1)) & 1);
#endif
}

/* value * multiplier * 2^(shift - 31), rounded after the multiplication and again after a right shift;
 * -31 <= shift <= 30, multiplier > INT32_MIN. */
QUTE_INLINE int32_t qute_requantize(int32_t value, int32_t multiplier, int32_t shift)
{
    if (shift >= 0) {
        return qute_doubling_high_mul(qute_shift_left(value, shift), multiplier);
    }
    return qute_rounding_divide_by_pot(qute_doubling_high_mul(value, multiplier), -shift);
}

/* An accumulator as an int8 of the output: requantised, offset, clamped. */
QUTE_INLINE int8_t qute_output_s8(
    int32_t sum, int32_t multiplier, int32_t shift, int32_t offset, int32_t low, int32_t high)
{
    return (int8_t)qute_clamp(qute_wrapping_add(qute_requantize(sum, multiplier, shift), offset), low, high);
}

#endif
