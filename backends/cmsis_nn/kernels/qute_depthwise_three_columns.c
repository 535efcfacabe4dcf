// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"

#if QUTE_DEPTHWISE_S8X4

/* Loops and all in assembly: taps, weights and sums of a column need every register, and compilers that have to keep a
 * pointer or a counter besides move a third of them to the stack and back.
 *
 * Taps of two rows, one above the other, share a word, so that one SMLAD serves both. Of each column the filter is
 * widened to a word for each of the four channels, with the weights of the first two rows; of a third row follow words
 * of channels {0, 2} and {1, 3}. Requantisation is that of qute_scaling.h.
 *
 * Offsets are those of qute_depthwise_group, from wherever r0 is in `words`. */

/* Three rows of a column of the filter: r1 first row, r9, r10 second and third, lr words. */
#define WIDEN_3(column)                                                                                                \
    "ldr r2, [r1" column "]\n\t"                                                                                       \
    "ldr r6, [r9" column "]\n\t"                                                                                       \
    "ldr r8, [r10" column "]\n\t"                                                                                      \
    "pkhbt r3, r2, r6, lsl #16\n\t"                                                                                    \
    "pkhtb r5, r6, r2, asr #16\n\t"                                                                                    \
    "sxtb16 r2, r3\n\t"                                                                                                \
    "sxtb16 r3, r3, ror #8\n\t"                                                                                        \
    "sxtb16 r4, r5\n\t"                                                                                                \
    "sxtb16 r5, r5, ror #8\n\t"                                                                                        \
    "sxtb16 r6, r8\n\t"                                                                                                \
    "sxtb16 r8, r8, ror #8\n\t"                                                                                        \
    "stmia lr!, {r2, r3, r4, r5, r6, r8}\n\t"

#define WIDEN_2(column)                                                                                                \
    "ldr r2, [r1" column "]\n\t"                                                                                       \
    "ldr r6, [r9" column "]\n\t"                                                                                       \
    "pkhbt r3, r2, r6, lsl #16\n\t"                                                                                    \
    "pkhtb r5, r6, r2, asr #16\n\t"                                                                                    \
    "sxtb16 r2, r3\n\t"                                                                                                \
    "sxtb16 r3, r3, ror #8\n\t"                                                                                        \
    "sxtb16 r4, r5\n\t"                                                                                                \
    "sxtb16 r5, r5, ror #8\n\t"                                                                                        \
    "stmia lr!, {r2, r3, r4, r5}\n\t"

/* The words of a qute_scaling: r9 multiplier, r10 shift, r11 twice the offset plus one. */
#define STORE_SCALING                                                                                                  \
    "ldr r3, [r10], #4\n\t"                                                                                            \
    "ldr r1, [r9], #4\n\t"                                                                                             \
    "mvn r2, r3\n\t"                                                                                                   \
    "rsb r3, r3, #0\n\t"                                                                                               \
    "lsl r2, r11, r2\n\t"                                                                                              \
    "stmia lr!, {r1, r2, r3}\n\t"

/* Fills the words: biases, filter, scalings. */
#define PREPARE(widen)                                                                                                 \
    __asm__ volatile("ldmia r0!, {r1, r9, r11, r12}\n\t"                                                               \
                     "ldmia r12, {r2, r3, r4, r5}\n\t"                                                                 \
                     "add r10, r1, r9, lsl #1\n\t"                                                                     \
                     "add r9, r9, r1\n\t"                                                                              \
                     "add lr, r0, #48\n\t"                                                                             \
                     "stmia lr!, {r2, r3, r4, r5}\n\t" widen("") widen(", r11") widen(", r11, lsl #1")                 \
                     "ldmia r0, {r9, r10, r11}\n\t" STORE_SCALING STORE_SCALING STORE_SCALING STORE_SCALING            \
                     "sub r0, r0, #16\n\t"                                                                             \
                     : "+&r"(k)                                                                                        \
                     :                                                                                                 \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "memory")

/* Two rows of a column: r0 words, r1 taps, r2 bytes to the next row, r3 input offset, r4-r7 sums. */
#define TAPS_2                                                                                                         \
    "ldr r8, [r1]\n\t"                                                                                                 \
    "ldr r9, [r1, r2]\n\t"                                                                                             \
    "ldmia r0!, {r11, r12, lr}\n\t"                                                                                    \
    "pkhbt r10, r8, r9, lsl #16\n\t"                                                                                   \
    "pkhtb r9, r9, r8, asr #16\n\t"                                                                                    \
    "sxtab16 r8, r3, r10\n\t"                                                                                          \
    "smlad r4, r8, r11, r4\n\t"                                                                                        \
    "sxtab16 r8, r3, r10, ror #8\n\t"                                                                                  \
    "smlad r5, r8, r12, r5\n\t"                                                                                        \
    "sxtab16 r8, r3, r9\n\t"                                                                                           \
    "smlad r6, r8, lr, r6\n\t"                                                                                         \
    "sxtab16 r8, r3, r9, ror #8\n\t"

#define COLUMN_2                                                                                                       \
    TAPS_2                                                                                                             \
    "ldr r11, [r0], #4\n\t"                                                                                            \
    "smlad r7, r8, r11, r7\n\t"

#define COLUMN_3                                                                                                       \
    TAPS_2                                                                                                             \
    "ldmia r0!, {r11, r12, lr}\n\t"                                                                                    \
    "ldr r9, [r1, r2, lsl #1]\n\t"                                                                                     \
    "smlad r7, r8, r11, r7\n\t"                                                                                        \
    "sxtab16 r8, r3, r9\n\t"                                                                                           \
    "sxtab16 r9, r3, r9, ror #8\n\t"                                                                                   \
    "smlabb r4, r8, r12, r4\n\t"                                                                                       \
    "smlatt r6, r8, r12, r6\n\t"                                                                                       \
    "smlabb r5, r9, lr, r5\n\t"                                                                                        \
    "smlatt r7, r9, lr, r7\n\t"

#define SCALE(sum)                                                                                                     \
    "ldmia r0!, {r8, r9, r10}\n\t"                                                                                     \
    "add r9, r9, " sum ", asr #31\n\t"                                                                                 \
    "lsl " sum ", " sum ", #1\n\t"                                                                                     \
    "smmlar " sum ", " sum ", r8, r9\n\t"                                                                              \
    "asr " sum ", " sum ", r10\n\t"                                                                                    \
    "ssat " sum ", #8, " sum "\n\t"

/* All pixels; `size` is the size of a column's words, in bytes. The pixel at the left end has no first column, that at
 * the right end no last: there, the column before it is read again, with weights of zero. */
#define PIXELS(column, size)                                                                                           \
    __asm__ volatile("push {r7}\n\t"                                                                                   \
                     "ldrd r1, r2, [r0, #28]\n\t"                                                                      \
                     "ldr r3, [r0, #36]\n\t"                                                                           \
                     "ldr r4, [r0, #60]\n\t"                                                                           \
                     "add r0, r0, #64\n\t"                                                                             \
                     "cmp r4, #0\n\t"                                                                                  \
                     "beq 1f\n\t"                                                                                      \
                     "ldmia r0!, {r4, r5, r6, r7}\n\t"                                                                 \
                     "add r0, r0, #" size "\n\t"                                                                       \
                     "b 2f\n"                                                                                          \
                     "1:\n\t"                                                                                          \
                     "ldmia r0!, {r4, r5, r6, r7}\n\t" column "ldr r10, [r0, #(8-64-16-" size ")]\n\t"                 \
                     "add r1, r1, r10\n"                                                                               \
                     "2:\n\t" column "ldr r10, [r0, #(48-64-16-2*" size ")]\n\t"                                       \
                     "add r1, r1, r10\n\t" column SCALE("r4") SCALE("r5") SCALE("r6") SCALE("r7")                      \
                     "ldrd r8, r9, [r0, #(40-64-64-3*" size ")]\n\t"                                                   \
                     "ldr r10, [r0, #(8-64-64-3*" size ")]\n\t"                                                        \
                     "ldr r11, [r0, #(52-64-64-3*" size ")]\n\t"                                                       \
                     "bfi r4, r5, #8, #8\n\t"                                                                          \
                     "bfi r4, r6, #16, #8\n\t"                                                                         \
                     "bfi r4, r7, #24, #8\n\t"                                                                         \
                     "str r4, [r8]\n\t"                                                                                \
                     "add r8, r8, r10\n\t"                                                                             \
                     "add r1, r1, r11\n\t"                                                                             \
                     "sub r0, r0, #(64+3*" size ")\n\t"                                                                \
                     "cmp r8, r9\n\t"                                                                                  \
                     "str r8, [r0, #(40-64)]\n\t"                                                                      \
                     "bne 1b\n\t"                                                                                      \
                     "ldr r4, [r0, #(56-64)]\n\t"                                                                      \
                     "cbz r4, 3f\n\t"                                                                                  \
                     "movs r4, #0\n\t"                                                                                 \
                     "movs r5, #0\n\t"                                                                                 \
                     "add r9, r9, r10\n\t"                                                                             \
                     "strd r4, r5, [r0, #(16+2*" size ")]\n\t"                                                         \
                     "strd r4, r5, [r0, #(24+2*" size ")]\n\t"                                                         \
                     "strd r4, r5, [r0, #(8+3*" size ")]\n\t"                                                          \
                     "str r9, [r0, #(44-64)]\n\t"                                                                      \
                     "str r4, [r0, #(48-64)]\n\t"                                                                      \
                     "str r4, [r0, #(56-64)]\n\t"                                                                      \
                     "b 1b\n"                                                                                          \
                     "3:\n\t"                                                                                          \
                     "pop {r7}"                                                                                        \
                     : "+&r"(k)                                                                                        \
                     :                                                                                                 \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "memory", "cc")

QUTE_NOINLINE void two_rows(qute_depthwise_group *group)
{
    register qute_depthwise_group *k __asm__("r0") = group;
    PREPARE(WIDEN_2);
    PIXELS(COLUMN_2, "16");
}

QUTE_NOINLINE void three_rows(qute_depthwise_group *group)
{
    register qute_depthwise_group *k __asm__("r0") = group;
    PREPARE(WIDEN_3);
    PIXELS(COLUMN_3, "24");
}

void qute_depthwise_three_columns(qute_depthwise_group *group, int32_t rows)
{
    if (rows == 3) {
        three_rows(group);
    } else {
        two_rows(group);
    }
}

#endif
