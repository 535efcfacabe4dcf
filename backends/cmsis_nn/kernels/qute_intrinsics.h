// SPDX-License-Identifier: Apache-2.0
/* Instructions of the Armv7E-M DSP extension that C cannot name, and unaligned loads that it can.
 *
 * QUTE_DSP is 1 where the kernels take their DSP path; without it they are plain C99. Inline assembly rather
 * than arm_acle.h, because GCC does not fold a rotation into SXTB16 there. Word layout is little-endian.
 */
#ifndef QUTE_INTRINSICS_H
#define QUTE_INTRINSICS_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__thumb__) && defined(__ARM_ARCH_ISA_THUMB) && !defined(__ARM_BIG_ENDIAN)
#define QUTE_THUMB2 (__ARM_ARCH_ISA_THUMB >= 2)
#else
#define QUTE_THUMB2 0
#endif

#if QUTE_THUMB2 && defined(__ARM_FEATURE_DSP) && !defined(QUTE_NO_DSP)
#define QUTE_DSP 1
#else
#define QUTE_DSP 0
#endif

/* 1 where the kernels take their Helium path: on cores with vectors of integers, where qute_helium.h is there, which only
 * projects for such cores have. Without optimisation its assembly would not find enough registers. */
#if QUTE_DSP && defined(__ARM_FEATURE_MVE) && defined(__OPTIMIZE__) && defined(__has_include)
#if __has_include("qute_helium.h")
#define QUTE_MVE 1
#endif
#endif
#ifndef QUTE_MVE
#define QUTE_MVE 0
#endif

#if defined(__GNUC__)
#define QUTE_INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define QUTE_NOINLINE static __attribute__((noinline))
#else
/* Without copies for arguments that are constant in one of the calls, either. */
#define QUTE_NOINLINE static __attribute__((noinline, noclone))
#endif
/* For what runs once in a while: compiled for size. */
#define QUTE_SMALL __attribute__((cold))
#define QUTE_COLD static __attribute__((noinline, cold))
/* Before a loop that is as fast when it is not unrolled. */
#define QUTE_ROLLED _Pragma("GCC unroll 1")
/* In a loop over a few words, which compilers would make a call of memcpy or memset. */
#define QUTE_NO_CALL __asm__ volatile("")
#else
#define QUTE_INLINE static inline
#define QUTE_NOINLINE static
#define QUTE_SMALL
#define QUTE_COLD static
#define QUTE_ROLLED
#define QUTE_NO_CALL (void)0
#endif

/* One load or store, also under -ffreestanding, where memcpy would be a call. */
#if defined(__GNUC__)
#define QUTE_COPY_WORD(target, source) __builtin_memcpy(target, source, 4)
#else
#define QUTE_COPY_WORD(target, source) memcpy(target, source, 4)
#endif

#if QUTE_DSP

/* Four bytes from any address. */
QUTE_INLINE uint32_t qute_load_s8x4(const int8_t *source)
{
    uint32_t word;
    QUTE_COPY_WORD(&word, source);
    return word;
}

/* Two int16. */
QUTE_INLINE uint32_t qute_load_s16x2(const int16_t *source)
{
    uint32_t word;
    QUTE_COPY_WORD(&word, source);
    return word;
}

QUTE_INLINE void qute_store_s16x2(int16_t *target, uint32_t word)
{
    QUTE_COPY_WORD(target, &word);
}

QUTE_INLINE void qute_store_s8x4(int8_t *target, uint32_t word)
{
    QUTE_COPY_WORD(target, &word);
}

/* The first 1 to 3 bytes of a word, zeros above. */
QUTE_INLINE uint32_t qute_load_s8_tail(const int8_t *source, int32_t count)
{
    uint32_t word = (uint8_t)source[0];
    if (count > 1) {
        word |= (uint32_t)(uint8_t)source[1] << 8;
    }
    if (count > 2) {
        word |= (uint32_t)(uint8_t)source[2] << 16;
    }
    return word;
}

/* Stores the first 1 to 3 bytes of a word. */
QUTE_INLINE void qute_store_s8_tail(int8_t *target, uint32_t word, int32_t count)
{
    QUTE_ROLLED
    for (; count > 0; count--) {
        *target++ = (int8_t)word;
        word >>= 8;
    }
}

/* A 16-bit value in both halves of a word. */
QUTE_INLINE uint32_t qute_pair(int32_t value)
{
    return ((uint32_t)value & 0xffffU) | ((uint32_t)value << 16);
}

/* The low halves of two words, the second one above. */
QUTE_INLINE uint32_t qute_pkhbt(int32_t low, int32_t high)
{
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(low), "r"(high));
    return result;
}

/* The high halves of two words, the first one above. */
QUTE_INLINE uint32_t qute_pkhtb(uint32_t high, uint32_t low)
{
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

/* Bytes 0 and 2 as two int16. */
QUTE_INLINE uint32_t qute_sxtb16(uint32_t bytes)
{
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(bytes));
    return result;
}

/* Bytes 1 and 3 as two int16. */
QUTE_INLINE uint32_t qute_sxtb16_odd(uint32_t bytes)
{
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(bytes));
    return result;
}

/* Bytes 0 and 2 as two int16, each added to its half of `pair`. */
QUTE_INLINE uint32_t qute_sxtab16(uint32_t pair, uint32_t bytes)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(pair), "r"(bytes));
    return result;
}

/* Bytes 1 and 3 as two int16, each added to its half of `pair`. */
QUTE_INLINE uint32_t qute_sxtab16_odd(uint32_t pair, uint32_t bytes)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(pair), "r"(bytes));
    return result;
}

/* sum + a.low * b.low + a.high * b.high */
QUTE_INLINE int32_t qute_smlad(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.low * b.low */
QUTE_INLINE int32_t qute_smlabb(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.high * b.high */
QUTE_INLINE int32_t qute_smlatt(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.low * b.high */
QUTE_INLINE int32_t qute_smlabt(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.high * b.low */
QUTE_INLINE int32_t qute_smlatb(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smlatb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a * b / 2^32, rounded half up. */
QUTE_INLINE int32_t qute_smmlar(int32_t a, int32_t b, int32_t sum)
{
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* max(0, value) */
QUTE_INLINE int32_t qute_positive(int32_t value)
{
    int32_t result;
    __asm__("usat %0, #31, %1" : "=r"(result) : "r"(value));
    return result;
}

/* The larger of each of four signed bytes. */
QUTE_INLINE uint32_t qute_max_s8x4(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b));
    return result;
}

/* The smaller of each of four signed bytes. */
QUTE_INLINE uint32_t qute_min_s8x4(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(result) : "r"(a), "r"(b));
    return result;
}

/* Difference of two pairs of int16, without borrow between the halves. */
QUTE_INLINE uint32_t qute_ssub16(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* Sum of two pairs of int16, without carry between the halves. */
QUTE_INLINE uint32_t qute_sadd16(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("sadd16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

#endif

#endif
