// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_product.h"

#if QUTE_MVE

/* Channels whose sums are kept before they become output. */
#define BLOCK 16
#define BLOCK_BYTES "64"

/* What the sums of a block of channels begin at, and these sums. */
typedef struct {
    int32_t base[BLOCK];
    int32_t sums[QUTE_HELIUM_PIXELS][BLOCK];
} block;

/* What the loop over pairs of filters finds no registers for, in the order of reading. */
typedef struct {
    const int8_t *windows[QUTE_HELIUM_PIXELS];
    int32_t depth;
    int32_t step; /* from the first filter of a pair to the second */
    int32_t *base;
    int32_t advance; /* from where a filter's vectors end to the next pair */
    int32_t *end;
} pairs;

/* Pairs of filters times three windows: 12 instructions for 96 products, and 20 around them. */
QUTE_NOINLINE void multiply_pairs(pairs *k, const int8_t *filter)
{
    const int8_t *f1, *x0, *x1, *x2;
    int32_t a0, a1, a2, b0, b1, b2;
    __asm__ volatile("1:\n\t"
                     "ldrd %[f1], %[a1], [%[k], #16]\n\t"
                     "add %[f1], %[f0], %[f1]\n\t"
                     "ldrd %[a0], %[b0], [%[a1]]\n\t"
                     "mov %[a1], %[a0]\n\t"
                     "mov %[a2], %[a0]\n\t"
                     "mov %[b1], %[b0]\n\t"
                     "mov %[b2], %[b0]\n\t"
                     "ldrd %[x0], %[x1], [%[k]]\n\t"
                     "ldrd %[x2], lr, [%[k], #8]\n\t"
                     "dlstp.8 lr, lr\n"
                     "2:\n\t"
                     "vldrb.8 q0, [%[f0]], #16\n\t"
                     "vldrb.8 q2, [%[x0]], #16\n\t"
                     "vmladava.s8 %[a0], q0, q2\n\t"
                     "vldrb.8 q1, [%[f1]], #16\n\t"
                     "vmladava.s8 %[b0], q1, q2\n\t"
                     "vldrb.8 q3, [%[x1]], #16\n\t"
                     "vmladava.s8 %[a1], q0, q3\n\t"
                     "vldrb.8 q2, [%[x2]], #16\n\t"
                     "vmladava.s8 %[b1], q1, q3\n\t"
                     "vmladava.s8 %[a2], q0, q2\n\t"
                     "vmladava.s8 %[b2], q1, q2\n\t"
                     "letp lr, 2b\n\t"
                     "ldr %[x0], [%[k], #20]\n\t"
                     "ldrd %[x1], %[x2], [%[k], #24]\n\t"
                     "strd %[a0], %[b0], [%[x0], #1 * " BLOCK_BYTES "]\n\t"
                     "strd %[a1], %[b1], [%[x0], #2 * " BLOCK_BYTES "]\n\t"
                     "strd %[a2], %[b2], [%[x0], #3 * " BLOCK_BYTES "]\n\t"
                     "add %[f0], %[f0], %[x1]\n\t"
                     "add %[x0], %[x0], #8\n\t"
                     "str %[x0], [%[k], #20]\n\t"
                     "cmp %[x0], %[x2]\n\t"
                     "bne 1b"
                     : [f0] "+&r"(filter), [f1] "=&r"(f1), [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2),
                       [a0] "=&Te"(a0), [a1] "=&Te"(a1), [a2] "=&Te"(a2), [b0] "=&Te"(b0), [b1] "=&Te"(b1),
                       [b2] "=&Te"(b2)
                     : [k] "r"(k)
                     : "q0", "q1", "q2", "q3", "lr", "memory", "cc");
}

/* `count` channels of a block times three windows. The last of an odd number is computed along with the one before it,
 * once more, or twice where there is no other. */
static void multiply_three(
    const int8_t *filter, int32_t depth, int32_t count, const int8_t *const windows[], block *sums)
{
    const int32_t vectors = (depth + 15) & ~15;
    pairs k = {{windows[0], windows[1], windows[2]},
               depth,
               depth,
               sums->base,
               2 * depth - vectors,
               sums->base + (count & ~1)};
    if (count >= 2) {
        multiply_pairs(&k, filter);
    }
    if (count & 1) {
        const int32_t first = count >= 2 ? count - 2 : 0;
        k.step = count >= 2 ? depth : 0;
        k.base = sums->base + first;
        k.end = k.base + 2;
        multiply_pairs(&k, filter + first * depth);
    }
}

/* The same for fours of filters. */
typedef struct {
    const int8_t *window;
    int32_t advance;
    int32_t *end;
} fours;

/* Fours of filters, `step` bytes apart, times one window: 10 instructions for 64 products, and 13 around them. */
QUTE_NOINLINE void multiply_fours(const fours *k, const int8_t *filter, int32_t step, int32_t depth, int32_t *base)
{
    const int8_t *f1, *f2, *f3, *x;
    int32_t a, b, c, d;
    register int32_t count __asm__("lr") = depth;
    __asm__ volatile("push {lr}\n"
                     "1:\n\t"
                     "ldr lr, [sp]\n\t"
                     "ldrd %[a], %[b], [%[s]]\n\t"
                     "ldrd %[c], %[d], [%[s], #8]\n\t"
                     "add %[f1], %[f0], %[step]\n\t"
                     "add %[f2], %[f1], %[step]\n\t"
                     "add %[f3], %[f2], %[step]\n\t"
                     "ldr %[x], [%[k]]\n\t"
                     "dlstp.8 lr, lr\n"
                     "2:\n\t"
                     "vldrb.8 q0, [%[x]], #16\n\t"
                     "vldrb.8 q1, [%[f0]], #16\n\t"
                     "vmladava.s8 %[a], q0, q1\n\t"
                     "vldrb.8 q2, [%[f1]], #16\n\t"
                     "vmladava.s8 %[b], q0, q2\n\t"
                     "vldrb.8 q1, [%[f2]], #16\n\t"
                     "vmladava.s8 %[c], q0, q1\n\t"
                     "vldrb.8 q2, [%[f3]], #16\n\t"
                     "vmladava.s8 %[d], q0, q2\n\t"
                     "letp lr, 2b\n\t"
                     "strd %[a], %[b], [%[s], #" BLOCK_BYTES "]\n\t"
                     "strd %[c], %[d], [%[s], #8 + " BLOCK_BYTES "]\n\t"
                     "add %[s], %[s], #16\n\t"
                     "ldrd %[a], %[b], [%[k], #4]\n\t"
                     "add %[f0], %[f3], %[a]\n\t"
                     "cmp %[s], %[b]\n\t"
                     "bne 1b\n\t"
                     "pop {lr}"
                     : [f0] "+&r"(filter), [s] "+&r"(base), [f1] "=&r"(f1), [f2] "=&r"(f2), [f3] "=&r"(f3),
                       [x] "=&r"(x), [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c), [d] "=&Te"(d), "+r"(count)
                     : [k] "r"(k), [step] "r"(step)
                     : "q0", "q1", "q2", "memory", "cc");
}

/* `count` channels of a block times one window. What four do not divide is computed along with others once more, or
 * each by itself where there are no four. */
static void multiply_one(const int8_t *filter, int32_t depth, int32_t count, const int8_t *window, block *sums)
{
    const int32_t vectors = (depth + 15) & ~15;
    fours k = {window, depth - vectors, sums->base + (count & ~3)};
    if (count >= 4) {
        multiply_fours(&k, filter, depth, depth, sums->base);
        if (count & 3) {
            k.end = sums->base + count;
            multiply_fours(&k, filter + (count - 4) * depth, depth, depth, sums->base + count - 4);
        }
        return;
    }
    for (int32_t c = 0; c < count; c++) {
        k.end = sums->base + c + 4;
        multiply_fours(&k, filter + c * depth, 0, depth, sums->base + c);
    }
}

/* Sums in q2 to bytes at `target`, the multipliers in q0, the shifts in q1: as in qute_helium_requantize_right. */
#define PUT_FOUR(target)                                                                                               \
    "vqrdmulh.s32 q2, q2, q0\n\t"                                                                                      \
    "vqdmlah.s32 q2, q2, %[one]\n\t"                                                                                   \
    "vrshl.s32 q2, q2, q1\n\t"                                                                                         \
    "vadd.i32 q2, q2, %[offset]\n\t"                                                                                   \
    "vmax.s32 q2, q2, %q[low]\n\t"                                                                                     \
    "vmin.s32 q2, q2, %q[high]\n\t"                                                                                    \
    "vstrb.32 q2, [%[" target "]], #4\n\t"

/* The first `count` sums of three pixels, whose shifts are all to the right, as output. */
static void put_three(
    const qute_helium_product *product, int32_t first, int32_t count, const block *sums, int8_t *output)
{
    const int32_t *multiplier = product->multiplier + first;
    const int32_t *shift = product->shift + first;
    const int32_t *values = sums->sums[0];
    int8_t *output1 = output + product->pixel_step;
    int8_t *output2 = output1 + product->pixel_step;
    register int32_t left __asm__("lr") = count;
    __asm__ volatile("dlstp.32 lr, lr\n"
                     "1:\n\t"
                     "vldrw.32 q0, [%[m]], #16\n\t"
                     "vldrw.32 q1, [%[s]], #16\n\t"
                     "vldrw.32 q2, [%[v]], #16\n\t" PUT_FOUR("o0")
                     "vldrw.32 q2, [%[v], #1 * " BLOCK_BYTES " - 16]\n\t" PUT_FOUR("o1")
                     "vldrw.32 q2, [%[v], #2 * " BLOCK_BYTES " - 16]\n\t" PUT_FOUR("o2")
                     "letp lr, 1b"
                     : [m] "+r"(multiplier), [s] "+r"(shift), [v] "+r"(values), [o0] "+l"(output), [o1] "+l"(output1),
                       [o2] "+l"(output2), "+r"(left)
                     : [one] "r"(1), [offset] "r"(product->offset), [low] "w"(vdupq_n_s32(product->min)),
                       [high] "w"(vdupq_n_s32(product->max))
                     : "q0", "q1", "q2", "memory", "cc");
}

/* The same for one pixel. */
static void put_one(
    const qute_helium_product *product, int32_t first, int32_t count, const int32_t *values, int8_t *output)
{
    const int32_t *multiplier = product->multiplier + first;
    const int32_t *shift = product->shift + first;
    register int32_t left __asm__("lr") = count;
    __asm__ volatile("dlstp.32 lr, lr\n"
                     "1:\n\t"
                     "vldrw.32 q0, [%[m]], #16\n\t"
                     "vldrw.32 q1, [%[s]], #16\n\t"
                     "vldrw.32 q2, [%[v]], #16\n\t" PUT_FOUR("o0")
                     "letp lr, 1b"
                     : [m] "+r"(multiplier), [s] "+r"(shift), [v] "+r"(values), [o0] "+l"(output), "+r"(left)
                     : [one] "r"(1), [offset] "r"(product->offset), [low] "w"(vdupq_n_s32(product->min)),
                       [high] "w"(vdupq_n_s32(product->max))
                     : "q0", "q1", "q2", "memory", "cc");
}

/* The same for any shifts: those to the left are rare, so this is kept out of the way. */
QUTE_COLD void put_shifted(
    const qute_helium_product *product, int32_t first, int32_t count, const int32_t *values, int8_t *output)
{
    for (int32_t c = 0; c < count; c += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(count - c));
        int32x4_t value = qute_helium_requantize(vldrwq_s32(values + c),
                                                 vldrwq_z_s32(product->multiplier + first + c, lanes),
                                                 vldrwq_z_s32(product->shift + first + c, lanes));
        value = qute_helium_output(value, product->offset, product->min, product->max);
        vstrbq_p_s32(output + c, value, lanes);
    }
}

/* Where the sums of a block begin, where the call says nothing or not all of it. */
QUTE_COLD void begin_block(const qute_helium_product *product, int32_t first, int32_t count, int32_t *base)
{
    const int8_t *filter = product->weights + first * product->depth;
    for (int32_t c = 0; c < count; c++) {
        const int32_t sum = product->input_offset != 0 ? qute_helium_sum_s8(filter, product->depth) : 0;
        base[c] = qute_wrapping_mul(product->input_offset, sum);
        if (product->base) {
            base[c] = qute_wrapping_add(base[c], product->base[first + c]);
        }
        filter += product->depth;
    }
}

/* A block of pixels one by one. */
QUTE_NOINLINE void put_pixels(const qute_helium_product *product,
                              const int8_t *const windows[],
                              int32_t pixels,
                              int32_t first,
                              int32_t count,
                              block *sums,
                              int8_t *output)
{
    const int32_t depth = product->depth;
    for (int32_t p = 0; p < pixels; p++) {
        multiply_one(product->weights + first * depth, depth, count, windows[p], sums);
        if (product->shifts_right) {
            put_one(product, first, count, sums->sums[0], output);
        } else {
            put_shifted(product, first, count, sums->sums[0], output);
        }
        output += product->pixel_step;
    }
}

void qute_helium_product_s8(
    const qute_helium_product *product, const int8_t *const windows[], int32_t pixels, int8_t *output)
{
    const int is_ready = product->base != NULL && product->input_offset == 0;
    const int32_t depth = product->depth;
    for (int32_t first = 0; first < product->count; first += BLOCK) {
        const int32_t left = product->count - first;
        int32_t count = left < BLOCK ? left : BLOCK;
        block sums;
        /* Or GCC unrolls all loops over the channels of a block, and their code is thrice as long. */
        __asm__("" : "+r"(count));
        if (is_ready) {
            qute_helium_copy_s32(sums.base, product->base + first, count);
        } else {
            begin_block(product, first, count, sums.base);
        }
        if (pixels == QUTE_HELIUM_PIXELS && product->shifts_right) {
            multiply_three(product->weights + first * depth, depth, count, windows, &sums);
            put_three(product, first, count, &sums, output + first);
        } else {
            put_pixels(product, windows, pixels, first, count, &sums, output + first);
        }
    }
}

#endif
