// SPDX-License-Identifier: Apache-2.0
/* Convolution, max(0, .) and the sum over all output pixels at once, channel by channel: the map of a head is never
 * written. What all heads share, the inputs of one channel widened to 16 bits, goes through a strip of the stack. */
#include "qute_head_features.h"

#include <string.h>

#include "qute_window.h"

QUTE_INLINE int32_t rectified(int32_t value)
{
    return value > 0 ? value : 0;
}

QUTE_INLINE int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Any kernel of one head on one channel. `input` and `weights` start at the channel. */
QUTE_COLD int32_t sum_of_any(const qute_head_axis *rows,
                          const qute_head_axis *columns,
                          const int8_t *input,
                          int32_t offset,
                          const int8_t *weights,
                          int32_t bias)
{
    int32_t total = 0;
    for (int32_t out_y = 0; out_y < rows->outputs; out_y++) {
        const int32_t y = out_y * rows->stride - rows->padding;
        const qute_taps row_taps = qute_valid_taps(y, rows->taps, 1, rows->size);
        for (int32_t out_x = 0; out_x < columns->outputs; out_x++) {
            const int32_t x = out_x * columns->stride - columns->padding;
            const qute_taps column_taps = qute_valid_taps(x, columns->taps, 1, columns->size);
            int32_t sum = bias;
            for (int32_t i = row_taps.begin; i < row_taps.end; i++) {
                const int32_t input_step = qute_any(columns->input_step);
                const int32_t weight_step = qute_any(columns->weight_step);
                const int8_t *pixel = input + (y + i) * rows->input_step + (x + column_taps.begin) * input_step;
                const int8_t *tap = weights + i * rows->weight_step + column_taps.begin * weight_step;
                for (int32_t j = column_taps.end - column_taps.begin; j > 0; j--) {
                    sum += (*pixel + offset) * *tap;
                    pixel += input_step;
                    tap += weight_step;
                }
            }
            total += rectified(sum);
        }
    }
    return total;
}

#if QUTE_DSP

/* Any kernel of one head on four channels. */
QUTE_NOINLINE void sums_of_four(const qute_head_axis *rows,
                                const qute_head_axis *columns,
                                const int8_t *input,
                                int32_t offset,
                                const int8_t *weights,
                                const int32_t *bias,
                                int32_t totals[4])
{
    const uint32_t offset_pair = qute_pair(offset);
    const int32_t input_step = qute_any(columns->input_step);
    const int32_t weight_step = qute_any(columns->weight_step);
    for (int32_t out_y = 0; out_y < rows->outputs; out_y++) {
        const int32_t y = out_y * rows->stride - rows->padding;
        const qute_taps row_taps = qute_valid_taps(y, rows->taps, 1, rows->size);
        for (int32_t out_x = 0; out_x < columns->outputs; out_x++) {
            const int32_t x = out_x * columns->stride - columns->padding;
            const qute_taps column_taps = qute_valid_taps(x, columns->taps, 1, columns->size);
            int32_t sum0 = bias[0];
            int32_t sum1 = bias[1];
            int32_t sum2 = bias[2];
            int32_t sum3 = bias[3];
            for (int32_t i = row_taps.begin; i < row_taps.end; i++) {
                const int8_t *pixel = input + (y + i) * rows->input_step + (x + column_taps.begin) * input_step;
                const int8_t *tap = weights + i * rows->weight_step + column_taps.begin * weight_step;
                for (int32_t j = column_taps.end - column_taps.begin; j > 0; j--) {
                    const uint32_t value = qute_load_s8x4(pixel);
                    const uint32_t weight = qute_load_s8x4(tap);
                    const uint32_t even = qute_sxtab16(offset_pair, value);
                    const uint32_t odd = qute_sxtab16_odd(offset_pair, value);
                    const uint32_t weight_even = qute_sxtb16(weight);
                    const uint32_t weight_odd = qute_sxtb16_odd(weight);
                    sum0 = qute_smlabb(even, weight_even, sum0);
                    sum1 = qute_smlabb(odd, weight_odd, sum1);
                    sum2 = qute_smlatt(even, weight_even, sum2);
                    sum3 = qute_smlatt(odd, weight_odd, sum3);
                    pixel += input_step;
                    tap += weight_step;
                }
            }
            totals[0] += rectified(sum0);
            totals[1] += rectified(sum1);
            totals[2] += rectified(sum2);
            totals[3] += rectified(sum3);
        }
    }
}

#endif

/* Without optimisation there are not enough registers. */
#if QUTE_DSP && defined(__OPTIMIZE__)
#define FAST_3X3 1
#else
#define FAST_3X3 0
#endif

#if FAST_3X3

/* Heads whose sums are kept at a time. */
#define MAX_HEADS_AT_ONCE 8
#define KERNEL_3X3 3
/* Output columns of a strip. */
#define STRIP_COLUMNS 16

/* One column of four rows: {row 0, row 1}, {row 2, row 3}, each plus the offset, or 0 outside of the map. */
typedef struct {
    uint32_t upper;
    uint32_t lower;
} column_of_four;

/* The columns of a strip that lie inside the map, and their first pixel in row 0. */
typedef struct {
    column_of_four *first;
    int32_t count;
    const int8_t *pixel;
} inner_columns;

/* Moves the strip two rows down the map, to end with rows y and y + 1. */
QUTE_NOINLINE void advance(const qute_head_features_params *params, inner_columns inner, int32_t y)
{
    const uint32_t offset_pair = qute_pair(params->input_offset);
    const int32_t step = qute_any(params->channels);
    const int32_t pitch = params->input_width * step;
    /* Rows outside of the map are read from inside it, and masked. */
    const int32_t upper = qute_clamp(y, 0, params->input_height - 1);
    const int32_t lower = qute_clamp(y + 1, 0, params->input_height - 1);
    const uint32_t mask = (upper == y ? 0xffffU : 0U) | (lower == y + 1 ? 0xffff0000U : 0U);
    const int8_t *pixel = inner.pixel + upper * pitch;
    const int32_t below = (lower - upper) * pitch;
    for (; inner.count > 0; inner.count--) {
        inner.first->upper = inner.first->lower;
        inner.first->lower = qute_sadd16(qute_pkhbt(pixel[0], pixel[below]), offset_pair) & mask;
        inner.first++;
        pixel += step;
    }
}

/* A 3x3 kernel in the pairs that meet a strip: rows {0, 1} and {1, 2} of each column. */
typedef struct {
    uint32_t w01[KERNEL_3X3];
    uint32_t w12[KERNEL_3X3];
    int32_t bias;
} packed_kernel;

#define KERNEL_OPERANDS(k)                                                                                             \
    [a0] "r"((k).w01[0]), [a1] "r"((k).w01[1]), [a2] "r"((k).w01[2]), [c0] "r"((k).w12[0]), [c1] "r"((k).w12[1]),      \
        [c2] "r"((k).w12[2]), [bias] "r"((k).bias)

QUTE_INLINE packed_kernel pack_kernel(const int8_t *weights, int32_t row_step, int32_t column_step, int32_t bias)
{
    packed_kernel kernel;
#pragma GCC unroll 3
    for (int32_t j = 0; j < KERNEL_3X3; j++) {
        const int32_t middle = weights[row_step];
        kernel.w01[j] = qute_pkhbt(weights[0], middle);
        kernel.w12[j] = qute_pkhbt(middle, weights[2 * row_step]);
        weights += column_step;
    }
    kernel.bias = bias;
    return kernel;
}

/* max(0, .) of the output at each of `count` > 0 columns of a strip, summed: of its upper three rows. In assembly,
 * because compilers that schedule this themselves run out of registers or copy the loop many times. */
QUTE_INLINE int32_t sum_of_row(const column_of_four *strip, int32_t count, packed_kernel k)
{
    const column_of_four *const end = strip + count;
    int32_t total = 0;
    do {
        uint32_t upper;
        uint32_t lower;
        int32_t sum;
        __asm__ volatile("ldrd %[upper], %[lower], [%[strip]], #8\n\t"
                         "smlad %[sum], %[upper], %[a0], %[bias]\n\t"
                         "smlabt %[sum], %[lower], %[c0], %[sum]\n\t"
                         "ldrd %[upper], %[lower], [%[strip]]\n\t"
                         "smlad %[sum], %[upper], %[a1], %[sum]\n\t"
                         "smlabt %[sum], %[lower], %[c1], %[sum]\n\t"
                         "ldrd %[upper], %[lower], [%[strip], #8]\n\t"
                         "smlad %[sum], %[upper], %[a2], %[sum]\n\t"
                         "smlabt %[sum], %[lower], %[c2], %[sum]\n\t"
                         : [strip] "+&r"(strip), [upper] "=&r"(upper), [lower] "=&r"(lower), [sum] "=&r"(sum)
                         : KERNEL_OPERANDS(k)
                         : "memory");
        total += rectified(sum);
    } while (strip != end);
    return total;
}

/* The same for the lower three rows as well. */
QUTE_INLINE int32_t sum_of_two_rows(const column_of_four *strip, int32_t count, packed_kernel k)
{
    const column_of_four *const end = strip + count;
    int32_t total = 0;
    do {
        uint32_t upper;
        uint32_t lower;
        int32_t first;
        int32_t second;
        __asm__ volatile("ldrd %[upper], %[lower], [%[strip]], #8\n\t"
                         "smlad %[first], %[upper], %[a0], %[bias]\n\t"
                         "smlatb %[second], %[upper], %[a0], %[bias]\n\t"
                         "smlabt %[first], %[lower], %[c0], %[first]\n\t"
                         "smlad %[second], %[lower], %[c0], %[second]\n\t"
                         "ldrd %[upper], %[lower], [%[strip]]\n\t"
                         "smlad %[first], %[upper], %[a1], %[first]\n\t"
                         "smlatb %[second], %[upper], %[a1], %[second]\n\t"
                         "smlabt %[first], %[lower], %[c1], %[first]\n\t"
                         "smlad %[second], %[lower], %[c1], %[second]\n\t"
                         "ldrd %[upper], %[lower], [%[strip], #8]\n\t"
                         "smlad %[first], %[upper], %[a2], %[first]\n\t"
                         "smlatb %[second], %[upper], %[a2], %[second]\n\t"
                         "smlabt %[first], %[lower], %[c2], %[first]\n\t"
                         "smlad %[second], %[lower], %[c2], %[second]\n\t"
                         "bic %[first], %[first], %[first], asr #31\n\t"
                         "add %[total], %[total], %[first]\n\t"
                         "bic %[second], %[second], %[second], asr #31\n\t"
                         "add %[total], %[total], %[second]\n\t"
                         : [strip] "+&r"(strip), [total] "+&r"(total), [upper] "=&r"(upper), [lower] "=&r"(lower),
                           [first] "=&r"(first), [second] "=&r"(second)
                         : KERNEL_OPERANDS(k)
                         : "memory");
    } while (strip != end);
    return total;
}

/* Adds to totals[head] the sum over a strip for each head, whose first weight is at `weights` and bias at `bias`. */
QUTE_NOINLINE void add_strip(const qute_head_features_params *params,
                             const column_of_four *strip,
                             int32_t count,
                             int32_t output_rows,
                             const int8_t *weights,
                             const int32_t *bias,
                             int32_t heads,
                             int32_t *totals)
{
    const int32_t channels = params->channels;
    const int32_t row_step = KERNEL_3X3 * channels;
    for (; heads > 0; heads--) {
        const packed_kernel kernel = pack_kernel(weights, row_step, channels, *bias);
        if (output_rows == 2) {
            *totals += sum_of_two_rows(strip, count, kernel);
        } else {
            *totals += sum_of_row(strip, count, kernel);
        }
        totals++;
        weights += KERNEL_3X3 * row_step;
        bias += channels;
    }
}

/* Kernels of 3x3 and stride 1: `heads` heads from `head` on of one channel. */
static void features_of_3x3(const qute_head_features_params *params,
                            const int8_t *input,
                            int32_t channel,
                            int32_t head,
                            int32_t heads,
                            int16_t *output)
{
    const int32_t index = head * params->channels + channel;
    const int8_t *weights = params->weights + head * KERNEL_3X3 * KERNEL_3X3 * params->channels + channel;
    int32_t totals[MAX_HEADS_AT_ONCE] = {0};
    column_of_four strip[STRIP_COLUMNS + KERNEL_3X3 - 1];
    for (int32_t out_x = 0; out_x < params->output_width; out_x += STRIP_COLUMNS) {
        const int32_t x = out_x - params->padding_width;
        const int32_t left = x < 0 ? -x : 0;
        const int32_t count = smaller(params->output_width - out_x, STRIP_COLUMNS);
        inner_columns inner;
        inner.count = smaller(params->input_width - x, count + KERNEL_3X3 - 1) - left;
        inner.first = inner.count > 0 ? strip + left : strip;
        inner.pixel = inner.count > 0 ? input + channel + (x + left) * params->channels : input;
        memset(strip, 0, sizeof strip);
        advance(params, inner, -params->padding_height);
        for (int32_t out_y = 0; out_y < params->output_height; out_y += 2) {
            advance(params, inner, out_y - params->padding_height + 2);
            add_strip(params,
                      strip,
                      count,
                      smaller(params->output_height - out_y, 2),
                      weights,
                      params->bias + index,
                      heads,
                      totals);
        }
    }
    qute_store_features(params, totals, heads, index, qute_any(params->channels), output);
}

#endif

/* Any kernel. The inner loop is along the axis of more taps. */
QUTE_NOINLINE void features_of_any(const qute_head_features_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_axis rows = qute_head_rows(params);
    const qute_head_axis columns = qute_head_columns(params);
    const qute_head_axis *inner = columns.taps >= rows.taps ? &columns : &rows;
    const qute_head_axis *outer = inner == &columns ? &rows : &columns;
    const int32_t channels = params->channels;
    const int8_t *weights = params->weights;
    int32_t index = 0;
    for (int32_t head = 0; head < params->heads; head++) {
        int32_t channel = 0;
#if QUTE_DSP
        while (channels >= 4 && channel < channels) {
            int32_t totals[4] = {0};
            /* The last block overlaps the one before it. */
            const int32_t first = smaller(channel, channels - 4);
            sums_of_four(outer,
                         inner,
                         input + first,
                         params->input_offset,
                         weights + first,
                         params->bias + index + first,
                         totals);
            qute_store_features(params, totals, 4, index + first, 1, output);
            channel += 4;
        }
#endif
        for (; channel < channels; channel++) {
            const int32_t total = sum_of_any(outer,
                                             inner,
                                             input + channel,
                                             params->input_offset,
                                             weights + channel,
                                             params->bias[index + channel]);
            qute_store_features(params, &total, 1, index + channel, 1, output);
        }
        index += channels;
        weights += params->kernel_height * params->kernel_width * channels;
    }
}

void qute_head_features_relu_s8(const qute_head_features_params *params, const int8_t *input, int16_t *output)
{
#if FAST_3X3
    if (params->kernel_height == KERNEL_3X3 && params->kernel_width == KERNEL_3X3 && params->stride_height == 1 &&
        params->stride_width == 1) {
        for (int32_t head = 0; head < params->heads; head += MAX_HEADS_AT_ONCE) {
            const int32_t heads = smaller(params->heads - head, MAX_HEADS_AT_ONCE);
            for (int32_t channel = 0; channel < params->channels; channel++) {
                features_of_3x3(params, input, channel, head, heads, output);
            }
        }
        return;
    }
#endif
    features_of_any(params, input, output);
}
