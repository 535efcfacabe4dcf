// SPDX-License-Identifier: Apache-2.0
#include "qute_channel_walk.h"

#if QUTE_BLOCKS

/* One channel of four pixels at a time. Six columns of a row, of two channels each, are in registers while three taps
 * are multiplied with them: 38 instructions for 48 products. See qute_multiply_five_s16.c. */

/* What a product needs, in the order of the stack. */
typedef struct {
    qute_channel_walk walk;
    uintptr_t row_end; /* of the strip: the row under way, all, and bytes of a row */
    uintptr_t end;
    int32_t row_bytes;
    int32_t channels; /* of the input: bytes from a tap to the next one of its row */
    const int16_t *strip;
    uintptr_t first_row_end;
    const int8_t *output_end;
    int32_t skipped; /* by the first round of a row's loop, see qute_unrolled.h */
    const int8_t *weights;
    int32_t sums[QUTE_STRIP]; /* of a channel that is left to the caller */
} product;

/* Offsets on the stack. */
#define ROW_END "24"
#define END "28"
#define STRIP "40"
#define OUTPUT_END "48"
#define ENTRY "52"

/* Groups of four channels of the unrolled loop, and bytes of one. */
#define UNROLLED 2
#define GROUP_BYTES 148

/* r0 strip, r1 weights, r2-r7 a row of it, r8 weights, r9-r12 sums, lr channels. */
#define TAP(weights, half, x0, x1, x2, x3)                                                                             \
    "ldr r1, [r8" weights "\n\t"                                                                                       \
    "sxtb16 r1, r1" half "\n\t"                                                                                        \
    "smlad r9, r1, " x0 ", r9\n\t"                                                                                     \
    "smlad r10, r1, " x1 ", r10\n\t"                                                                                   \
    "smlad r11, r1, " x2 ", r11\n\t"                                                                                   \
    "smlad r12, r1, " x3 ", r12\n\t"

#define TAPS(half, last)                                                                                               \
    "ldmia.n r0!, {r2, r3, r4, r5, r6, r7}\n\t" TAP(", lr]", half, "r3", "r4", "r5", "r6")                               \
        TAP(", lr, lsl #1]", half, "r4", "r5", "r6", "r7") TAP(last, half, "r2", "r3", "r4", "r5")

/* All channels up to output_end, or up to one whose shift is unusual: its sums are left in the product. */
QUTE_NOINLINE void multiply_channels(product *p)
{
    register product *k __asm__("r0") = p;
    __asm__ volatile("push {r0, r7}\n\t"
                     "sub sp, sp, #56\n\t"
                     "ldmia r0!, {r1, r2, r3, r4, r5, r6}\n\t"
                     "stmia sp, {r1, r2, r3, r4, r5, r6}\n\t"
                     "ldmia r0, {r7, r8, r9, r10, r11, r12, lr}\n\t"
                     "ldrd r2, r3, [r0, #28]\n\t"
                     QUTE_ENTRY("r2", "r0", "3f")
                     "str r2, [sp, #" ENTRY "]\n\t"
                     "add r0, sp, #24\n\t"
                     "stmia r0, {r7, r8, r9, r10, r11, r12, lr}\n\t"
                     "mov r8, r3\n\t"
                     "mov lr, r10\n"
                     /* The next channel. */
                     "1:\n\t"
                     "ldr r9, [r1, r6]\n\t"
                     "ldrd r0, r1, [sp, #" STRIP "]\n\t"
                     "mov r10, r9\n\t"
                     "mov r11, r9\n\t"
                     "mov r12, r9\n"
                     /* The next row. */
                     "2:\n\t"
                     "str r1, [sp, #" ROW_END "]\n\t"
                     "ldr pc, [sp, #" ENTRY "]\n"
                     "3:\n\t" QUTE_REPEATED(UNROLLED) TAPS("", "]") TAPS(", ror #8", "], #4") ".endr\n\t"
                     "ldr r1, [sp, #" ROW_END "]\n\t"
                     "cmp r0, r1\n\t"
                     "bne 3b\n\t"
                     "ldrd r2, r3, [sp, #" END "]\n\t"
                     "add r1, r1, r3\n\t"
                     "cmp r0, r2\n\t"
                     "add r8, r8, lr, lsl #1\n\t"
                     "bne 2b\n\t"
                     "ldmia sp, {r1, r2, r3, r4, r5, r6}\n\t" QUTE_LOAD_SCALING
                     "bhi 4f\n\t" QUTE_SCALE("r9") QUTE_SCALE("r10") QUTE_SCALE("r11") QUTE_SCALE("r12")
                     "add r5, r2, r4, lsl #1\n\t"
                     "strb r10, [r2, r4]\n\t"
                     "strb r11, [r2, r4, lsl #1]\n\t"
                     "strb r12, [r5, r4]\n\t"
                     "strb r9, [r2], #1\n\t"
                     "ldr r0, [sp, #" OUTPUT_END "]\n\t"
                     "strd r1, r2, [sp]\n\t"
                     "cmp r2, r0\n\t"
                     "bne 1b\n"
                     "4:\n\t"
                     "add sp, sp, #56\n\t"
                     "pop {r0, r7}\n\t"
                     "strd r1, r2, [r0], #56\n\t"
                     "stmia r0, {r8, r9, r10, r11, r12}\n\t"
                     : "+&r"(k)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "memory", "cc");
}

void qute_multiply_strip_s16(const qute_product *call, const int16_t *strip, int32_t rows, int8_t *output)
{
    const int32_t channels = call->depth / (3 * rows);
    int8_t *const output_end = output + call->last;
    product p;

    qute_start_walk(&p.walk, call, output);
    p.row_bytes = 12 * channels;
    p.end = (uintptr_t)strip + (uintptr_t)(rows * p.row_bytes);
    p.channels = channels;
    p.strip = strip;
    p.first_row_end = (uintptr_t)strip + (uintptr_t)p.row_bytes;
    p.output_end = output_end;
    p.skipped = QUTE_SKIPPED(channels >> 2, UNROLLED, GROUP_BYTES);
    p.weights = call->weights;
    while (p.walk.output != output_end) {
        multiply_channels(&p);
        if (p.walk.output != output_end) {
            qute_put_unusual(&p.walk, p.sums, QUTE_STRIP);
        }
    }
}

#endif
