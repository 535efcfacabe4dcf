// SPDX-License-Identifier: Apache-2.0
#include "qute_channel_walk.h"

#if QUTE_BLOCKS

/* One channel of five pixels at a time: four weights are widened once for 20 products, which together with the columns
 * takes 15 instructions and every register that there is. So the loop over channels is assembly too; what it needs
 * between two channels lies on the stack. */

/* What a product needs, in the order of the stack. */
typedef struct {
    qute_channel_walk walk;
    const int16_t *columns;
    int32_t excess; /* values that the last group has too many */
    int32_t skipped; /* by the first round of the loop, see qute_unrolled.h */
    uintptr_t end; /* of the columns */
    const int8_t *output_end;
    const int8_t *weights;
    int32_t sums[QUTE_FIVE]; /* of a channel that is left to the caller */
} product;

/* Offsets on the stack. */
#define COLUMNS "24"
#define ENTRY "32"
#define END "36"
#define OUTPUT_END "40"

/* r0 columns, r1 weights widened, r2-r6 values of the five pixels, r7 weights widened, r8 weights, r9-r12 and lr sums. */
#define FIVE_PRODUCTS(weights)                                                                                         \
    "ldmia.n r0!, {r2, r3, r4, r5, r6}\n\t"                                                                            \
    "smlad r9, " weights ", r2, r9\n\t"                                                                                \
    "smlad r10, " weights ", r3, r10\n\t"                                                                              \
    "smlad r11, " weights ", r4, r11\n\t"                                                                              \
    "smlad r12, " weights ", r5, r12\n\t"                                                                              \
    "smlad lr, " weights ", r6, lr\n\t"

/* Groups of the unrolled loop, and bytes of one. */
#define UNROLLED 8
#define GROUP_BYTES 56

#define GROUP                                                                                                          \
    "ldr r1, [r8], #4\n\t"                                                                                             \
    "sxtb16 r7, r1\n\t"                                                                                                \
    "sxtb16 r1, r1, ror #8\n\t" FIVE_PRODUCTS("r7") FIVE_PRODUCTS("r1")

/* All channels up to output_end, or up to one whose shift is unusual: its sums are left in the product. */
QUTE_NOINLINE void multiply_channels(product *p)
{
    register product *k __asm__("r0") = p;
    __asm__ volatile("push {r0, r7}\n\t"
                     "sub sp, sp, #48\n\t"
                     "ldmia r0!, {r1, r2, r3, r4, r5, r6}\n\t"
                     "ldmia r0, {r7, r8, r9, r10, r11, r12}\n\t"
                     QUTE_ENTRY("r9", "r0", "2f")
                     "stmia sp, {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12}\n\t"
                     "mov r8, r12\n"
                     /* The next channel. */
                     "1:\n\t"
                     "ldr r9, [r1, r6]\n\t"
                     "ldr r0, [sp, #" COLUMNS "]\n\t"
                     "mov r10, r9\n\t"
                     "mov r11, r9\n\t"
                     "mov r12, r9\n\t"
                     "mov lr, r9\n\t"
                     "ldr pc, [sp, #" ENTRY "]\n"
                     "2:\n\t" QUTE_REPEATED(UNROLLED) GROUP ".endr\n\t"
                     "ldr r1, [sp, #" END "]\n\t"
                     "cmp r0, r1\n\t"
                     "bne 2b\n\t"
                     /* Multiplier, output, offset, pixel step, shift step, bias step. */
                     "ldmia sp, {r1, r2, r3, r4, r5, r6}\n\t"
                     QUTE_LOAD_SCALING
                     "bhi 6f\n\t" QUTE_SCALE("r9") QUTE_SCALE("r10") QUTE_SCALE("r11") QUTE_SCALE("r12") QUTE_SCALE("lr")
                     "add r5, r2, r4, lsl #1\n\t"
                     "strb r10, [r2, r4]\n\t"
                     "strb r11, [r2, r4, lsl #1]\n\t"
                     "strb r12, [r5, r4]\n\t"
                     "strb lr, [r5, r4, lsl #1]\n\t"
                     "ldr r7, [sp, #28]\n\t"
                     "strb r9, [r2], #1\n\t"
                     "ldr r0, [sp, #" OUTPUT_END "]\n\t"
                     "sub r8, r8, r7\n\t"
                     "strd r1, r2, [sp]\n\t"
                     "cmp r2, r0\n\t"
                     "bne 1b\n"
                     "6:\n\t"
                     "add sp, sp, #48\n\t"
                     "pop {r0, r7}\n\t"
                     "strd r1, r2, [r0], #44\n\t"
                     "stmia r0, {r8, r9, r10, r11, r12, lr}\n\t"
                     : "+&r"(k)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "memory", "cc");
}

/* Up to output_end. */
static void multiply_up_to(product *p, int8_t *output_end)
{
    p->output_end = output_end;
    while (p->walk.output != output_end) {
        multiply_channels(p);
        if (p->walk.output != output_end) {
            qute_put_unusual(&p->walk, p->sums, QUTE_FIVE);
            p->weights -= p->excess;
        }
    }
}

void qute_multiply_five_s16(const qute_product *call, int16_t *columns, int8_t *output)
{
    const int32_t depth = call->depth;
    const int32_t length = qute_column_length(depth);
    int16_t *const end = columns + QUTE_FIVE * length;
    int8_t *const output_end = output + call->last;
    product p;

    qute_start_walk(&p.walk, call, output);
    p.columns = columns;
    p.excess = length - depth;
    p.skipped = QUTE_SKIPPED(length >> 2, UNROLLED, GROUP_BYTES);
    p.end = (uintptr_t)end;
    p.weights = call->weights;
    if (p.excess == 0) {
        multiply_up_to(&p, output_end);
        return;
    }
    multiply_up_to(&p, output_end - 1);
    /* Behind the last weights there is nothing to read. */
    memset(end + (length - 4) / 2, 0, 4);
    memcpy(end, p.weights, (size_t)depth);
    p.weights = (const int8_t *)end;
    multiply_up_to(&p, output_end);
}

#endif
