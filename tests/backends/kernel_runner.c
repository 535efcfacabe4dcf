// SPDX-License-Identifier: Apache-2.0

    /* Runs the kernel calls encoded in `case_words` (kernel_encoding.py writes them) and compares every output byte.
 *
 * Links with the bundled kernels or with Arm's CMSIS-NN. On a host each array is a heap block of its exact
 * size, so that AddressSanitizer sees every stray access; on a Cortex-M, guards around the output and the
 * scratch are checked, and results go out through semihosting. Prints one line a failure and "done N".
 */
#include "arm_nnfunctions.h"
#ifdef WITH_QUTE_KERNELS
#include "qute_kernels.h"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern const int32_t case_words[];

enum { OP_END, OP_CONV, OP_DEPTHWISE, OP_FC, OP_AVGPOOL, OP_MAXPOOL, OP_SOFTMAX, OP_ADD, OP_MUL, OP_CONCAT,
    OP_LOOKUP, OP_COPY, OP_GATHER, OP_VECTOR_SUM, OP_MOVE };

#if defined(__arm__)

static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void put_text(const char *text)
{
    semihost(4, text);
}

static uint8_t heap[1 << 20] __attribute__((aligned(16)));
static size_t heap_used;

static void *allocate(size_t bytes)
{
    void *block = heap + heap_used;
    heap_used += (bytes + 15) & ~(size_t)15;
    return block;
}

static void release_all(void)
{
    heap_used = 0;
}

#else

#include <stdio.h>
#include <stdlib.h>

static void *blocks[32];
static int block_count;

static void put_text(const char *text)
{
    fputs(text, stdout);
}

static void *allocate(size_t bytes)
{
    void *block = malloc(bytes ? bytes : 1);
    if (block == NULL) {
        abort();
    }
    blocks[block_count++] = block;
    return block;
}

static void release_all(void)
{
    while (block_count > 0) {
        free(blocks[--block_count]);
    }
}

#endif

#define GUARD_BYTES 32
#define GUARD_VALUE 0x5a

static const int32_t *cursor;
static int failures;

static void put_number(int32_t value)
{
    char digits[16];
    uint32_t rest = value < 0 ? 0U - (uint32_t)value : (uint32_t)value;
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + (int)(rest % 10U));
        rest /= 10U;
    } while (rest != 0);
    if (value < 0) {
        digits[--at] = '-';
    }
    put_text(digits + at);
}

static void fail(int32_t number, const char *what, int32_t at, int32_t got, int32_t expected)
{
    failures++;
    put_text("FAIL case ");
    put_number(number);
    put_text(": ");
    put_text(what);
    put_text(" at ");
    put_number(at);
    put_text(" is ");
    put_number(got);
    put_text(", expected ");
    put_number(expected);
    put_text("\n");
}

static int32_t next(void)
{
    return *cursor++;
}

/* The next array, copied to the end of a block, `shift` bytes from alignment. */
static int8_t *next_bytes(int32_t shift)
{
    const size_t bytes = (size_t)next();
    int8_t *block = (int8_t *)allocate(bytes + (size_t)shift) + shift;
    memcpy(block, cursor, bytes);
    cursor += (bytes + 3) / 4;
    return block;
}

static int32_t *next_words(void)
{
    const size_t count = (size_t)next();
    int32_t *block = (int32_t *)allocate(count * sizeof(int32_t));
    memcpy(block, cursor, count * sizeof(int32_t));
    cursor += count;
    return count != 0 ? block : NULL;
}

static cmsis_nn_dims next_dims(void)
{
    cmsis_nn_dims dims;
    dims.n = next();
    dims.h = next();
    dims.w = next();
    dims.c = next();
    return dims;
}

static cmsis_nn_tile next_tile(void)
{
    cmsis_nn_tile tile;
    tile.h = next();
    tile.w = next();
    return tile;
}

static int32_t useful;

/* Scratch of the size that the kernel asks for, or more where a plan would give it more. */
static cmsis_nn_context scratch(int32_t number, int32_t needed, int32_t planned)
{
    cmsis_nn_context ctx = {NULL, 0};
    if (planned >= 0 && needed > planned) {
        fail(number, "scratch", 0, needed, planned);
    }
    ctx.size = needed > useful ? needed : useful;
    if (ctx.size > 0) {
        ctx.buf = allocate((size_t)ctx.size + GUARD_BYTES * (sizeof(void *) == 4));
#if defined(__arm__)
        memset((uint8_t *)ctx.buf + ctx.size, GUARD_VALUE, GUARD_BYTES);
#endif
    }
    return ctx;
}

static void run_case(int32_t number, int32_t operation)
{
    const int32_t planned = next();
    const int32_t room = next();
    const int32_t alias = next();
    const int32_t shift = next();
    const int8_t *input = next_bytes(shift);
    /* Every fourth case has everything aligned, as emitted projects do. */
    const int8_t *second = next_bytes(shift == 0 ? 0 : (shift + 1) & 3);
    const int32_t *bias = next_words();
    int32_t *multiplier = next_words();
    int32_t *shifts = next_words();
    const int32_t expected_bytes = *cursor;
    const int8_t *expected = next_bytes(0);

            int8_t *output = (int8_t *)allocate((size_t)expected_bytes + (size_t)shift + GUARD_BYTES * (sizeof(void *) == 4));
    cmsis_nn_context ctx = {NULL, 0};
    arm_cmsis_nn_status status = ARM_CMSIS_NN_SUCCESS;
    int8_t *target = output + shift;

    useful = room;

    memset(output, 0x33, (size_t)expected_bytes + (size_t)shift);
#if defined(__arm__)
    memset(target + expected_bytes, GUARD_VALUE, GUARD_BYTES);
#endif
    if (alias == 1) {
        memcpy(target, input, (size_t)expected_bytes);
        input = target;
    } else if (alias == 2) {
        memcpy(target, second, (size_t)expected_bytes);
        second = target;
    }

    switch (operation) {
    case OP_CONV:
    case OP_DEPTHWISE: {
        const cmsis_nn_dims in = next_dims();
        const cmsis_nn_dims filter = next_dims();
        const cmsis_nn_dims out = next_dims();
        const cmsis_nn_dims bias_dims = {1, 1, 1, out.c};
        const cmsis_nn_tile stride = next_tile();
        const cmsis_nn_tile padding = next_tile();
        const cmsis_nn_tile dilation = next_tile();
        const int32_t input_offset = next();
        const int32_t output_offset = next();
        const int32_t min = next();
        const int32_t max = next();
        const int32_t ch_mult = next();
        const cmsis_nn_per_channel_quant_params quant = {multiplier, shifts};
        if (operation == OP_CONV) {
            const cmsis_nn_conv_params params = {input_offset, output_offset, stride, padding, dilation, {min,
                max}};
            ctx = scratch(number, arm_convolve_wrapper_s8_get_buffer_size(&params, &in, &filter, &out),
                planned);
            status = arm_convolve_wrapper_s8(&ctx, &params, &quant, &in, input, &filter, second, &bias_dims,
                bias, &out, target);
        } else {
            const cmsis_nn_dw_conv_params params = {input_offset, output_offset, ch_mult, stride, padding,
                dilation, {min, max}};
            ctx = scratch(number, arm_depthwise_conv_wrapper_s8_get_buffer_size(&params, &in, &filter, &out),
                planned);
            status = arm_depthwise_conv_wrapper_s8(&ctx, &params, &quant, &in, input, &filter, second,
                &bias_dims, bias, &out, target);
        }
        break;
    }
    case OP_FC: {
        const int32_t rows = next();
        const int32_t depth = next();
        const int32_t outputs = next();
        const cmsis_nn_fc_params params = {cursor[0], cursor[1], cursor[2], {cursor[3], cursor[4]}};
        const cmsis_nn_per_tensor_quant_params quant = {multiplier[0], shifts[0]};
        const cmsis_nn_dims in = {rows, 1, 1, depth};
        const cmsis_nn_dims filter = {depth, 1, 1, outputs};
        const cmsis_nn_dims out = {rows, 1, 1, outputs};
        const cmsis_nn_dims bias_dims = {1, 1, 1, outputs};
        cursor += 5;
        ctx = scratch(number, arm_fully_connected_s8_get_buffer_size(&filter), planned);
        status = arm_fully_connected_s8(&ctx, &params, &quant, &in, input, &filter, second, &bias_dims, bias,
            &out, target);
        break;
    }
    case OP_AVGPOOL:
    case OP_MAXPOOL: {
        const cmsis_nn_dims in = next_dims();
        const cmsis_nn_dims filter = next_dims();
        const cmsis_nn_dims out = next_dims();
        const cmsis_nn_tile stride = next_tile();
        const cmsis_nn_tile padding = next_tile();
        const cmsis_nn_pool_params params = {stride, padding, {cursor[0], cursor[1]}};
        cursor += 2;
        if (operation == OP_AVGPOOL) {
            ctx = scratch(number, arm_avgpool_s8_get_buffer_size(out.w, in.c), planned);
            status = arm_avgpool_s8(&ctx, &params, &in, input, &filter, &out, target);
        } else {
            status = arm_max_pool_s8(&ctx, &params, &in, input, &filter, &out, target);
        }
        break;
    }
    case OP_SOFTMAX:
        arm_softmax_s8(input, cursor[0], cursor[1], cursor[2], cursor[3], cursor[4], target);
        cursor += 5;
        break;
    case OP_ADD:
        status = arm_elementwise_add_s8(input, second, cursor[0], cursor[1], cursor[2], cursor[3], cursor[4],
            cursor[5], cursor[6], target, cursor[7], cursor[8], cursor[9], cursor[10], cursor[11],
            cursor[12]);
        cursor += 13;
        break;
    case OP_MUL:
        status = arm_elementwise_mul_s8(input, second, cursor[0], cursor[1], target, cursor[2], cursor[3],
            cursor[4], cursor[5], cursor[6], cursor[7]);
        cursor += 8;
        break;
    case OP_CONCAT:
        arm_concatenation_s8_x(input, (uint16_t)cursor[0], (uint16_t)cursor[1], 1, 1, target,
            (uint16_t)cursor[2], 0);
        arm_concatenation_s8_x(second, (uint16_t)(cursor[2] - cursor[0]), (uint16_t)cursor[1], 1, 1, target,
            (uint16_t)cursor[2], (uint32_t)cursor[0]);
        cursor += 3;
        break;
#ifdef WITH_QUTE_KERNELS
    case OP_LOOKUP:
        qute_lookup_s8(input, second, target, cursor[0]);
        cursor += 1;
        break;
    case OP_COPY:
        qute_copy_s8(input + cursor[0], cursor + 2, cursor + 6, cursor + 10, target + cursor[1]);
        cursor += 14;
        break;
    case OP_GATHER:
        qute_gather_s8(input, (const uint16_t *)(const void *)multiplier, target, cursor[0]);
        cursor += 1;
        break;
    case OP_MOVE:
        qute_move_s8(input, target, cursor[0]);
        cursor += 1;
        break;
    case OP_VECTOR_SUM: {
        int32_t *sums = (int32_t *)allocate((size_t)expected_bytes);
        status = arm_vector_sum_s8(sums, cursor[0], cursor[1], second, cursor[2], cursor[3], bias);
        memcpy(target, sums, (size_t)expected_bytes);
        cursor += 4;
        break;
    }
#endif
    default:
        fail(number, "operation", 0, operation, 0);
        break;
    }

    if (status != ARM_CMSIS_NN_SUCCESS) {
        fail(number, "status", 0, (int32_t)status, 0);
        return;
    }
    for (int32_t i = 0; i < expected_bytes; i++) {
        if (target[i] != expected[i]) {
            fail(number, "byte", i, target[i], expected[i]);
            break;
        }
    }
#if defined(__arm__)
    for (int32_t i = 0; i < GUARD_BYTES; i++) {
        if (target[expected_bytes + i] != GUARD_VALUE) {
            fail(number, "guard after output", i, target[expected_bytes + i], GUARD_VALUE);
        }
        if (ctx.buf != NULL && ((uint8_t *)ctx.buf)[ctx.size + i] != GUARD_VALUE) {
            fail(number, "guard after scratch", i, ((uint8_t *)ctx.buf)[ctx.size + i], GUARD_VALUE);
        }
    }
#endif
}

int main(void)
{
    int32_t number = 0;
    cursor = case_words;
    for (int32_t operation = next(); operation != OP_END; operation = next()) {
        run_case(number++, operation);
        release_all();
    }
    put_text("done ");
    put_number(number);
    put_text("\n");
    return failures != 0;
}

#if defined(__arm__)

static void start(void)
{
#if defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xe000ed88U = 0xfU << 20; /* CPACR: enables Helium */
    __asm__ volatile("dsb\n isb" : : : "memory");
#endif
    main();
    semihost(0x18, (const void *)0x20026);
    for (;;) {
    }
}

extern uint32_t stack_top;

__attribute__((section(".vectors"), used)) static void (*const vectors[2])(void) = {
    (void (*)(void))&stack_top, start};

#endif
