// SPDX-License-Identifier: Apache-2.0
#include "qute_intrinsics.h"
#include "qute_kernels.h"

#if defined(__GNUC__)
#define ALIGNED(address) __builtin_assume_aligned(address, 4)
#else
#define ALIGNED(address) (address)
#endif

/* Whether words can be read and written. */
#if QUTE_THUMB2
#define IN_WORDS(input, output) (((uintptr_t)(output) & 3U) == 0)
#define WORD_AT(input) (input)

/* What a block overwrites was read with it or before it. */
#define REGISTERS "{r3, r4, r5, r6, r8, r9, r10, r12}\n\t"
#define READ "ldmia %0!, " REGISTERS
/* LDM takes no address between words. */
#define READ_APART                                                                                                     \
    "ldr r3, [%0], #4\n\t"                                                                                             \
    "ldr r4, [%0], #4\n\t"                                                                                             \
    "ldr r5, [%0], #4\n\t"                                                                                             \
    "ldr r6, [%0], #4\n\t"                                                                                             \
    "ldr r8, [%0], #4\n\t"                                                                                             \
    "ldr r9, [%0], #4\n\t"                                                                                             \
    "ldr r10, [%0], #4\n\t"                                                                                            \
    "ldr r12, [%0], #4\n\t"
#define MOVE_BLOCKS(read)                                                                                              \
    QUTE_ROLLED                                                                                                        \
    for (; count >= 32; count -= 32) {                                                                                 \
        __asm__ volatile(read "stmia %1!, " REGISTERS                                                                  \
                         : "+&r"(input), "+&r"(output)                                                                 \
                         :                                                                                             \
                         : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r12", "memory");                                \
    }

#else
#define IN_WORDS(input, output) ((((uintptr_t)(input) | (uintptr_t)(output)) & 3U) == 0)
#define WORD_AT(input) ALIGNED(input)
#endif

void qute_move_up_s8(const int8_t *input, int8_t *output, int32_t count)
{
    if (IN_WORDS(input, output)) {
#if QUTE_THUMB2
        if (((uintptr_t)input & 3U) == 0) {
            MOVE_BLOCKS(READ)
        } else {
            MOVE_BLOCKS(READ_APART)
        }
#endif
        QUTE_ROLLED
        for (; count >= 4; count -= 4) {
            uint32_t word;
            QUTE_COPY_WORD(&word, WORD_AT(input));
            QUTE_COPY_WORD(ALIGNED(output), &word);
            input += 4;
            output += 4;
            QUTE_NO_CALL;
        }
    }
    QUTE_ROLLED
    for (; count > 0; count--) {
        *output++ = *input++;
        QUTE_NO_CALL;
    }
}
