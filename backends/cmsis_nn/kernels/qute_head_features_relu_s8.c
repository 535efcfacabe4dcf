// SPDX-License-Identifier: Apache-2.0
/* Convolution, max(0, .) and the sum over all output pixels at once, channel by channel: the map of a head is never
 * written. What all heads share, the inputs of one channel widened to 16 bits, goes through a strip of the stack. */
#include "qute_head_features.h"

#include "qute_window.h"

QUTE_INLINE int32_t rectified(int32_t value)
{
    return value > 0 ? value : 0;
}

/* Any kernel of one head on one channel. `input` and `weights` start at the channel. */
static int32_t sum_of_any(const qute_head_axis *rows,
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
                const int8_t *pixel = input + (y + i) * rows->input_step + (x + column_taps.begin) * columns->input_step;
                const int8_t *tap = weights + i * rows->weight_step + column_taps.begin * columns->weight_step;
                for (int32_t j = column_taps.end - column_taps.begin; j > 0; j--) {
                    sum += (*pixel + offset) * *tap;
                    pixel += columns->input_step;
                    tap += columns->weight_step;
                }
            }
            total += rectified(sum);
        }
    }
    return total;
}

#if QUTE_DSP

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

QUTE_INLINE uint32_t pack(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xffffU) | ((uint32_t)high << 16);
}

/* Fills `strip` with `count` columns from column x of the map on, rows y to y + 3. */
static void load_strip(const qute_head_axis *rows,
                       const qute_head_axis *columns,
                       const int8_t *input,
                       int32_t offset,
                       int32_t y,
                       int32_t x,
                       int32_t count,
                       column_of_four *strip)
{
    const uint32_t offset_pair = qute_pair(offset);
    const int8_t *row[4];
    uint32_t inside[4];
    uint32_t upper_mask;
    uint32_t lower_mask;
    int32_t i = 0;
    int32_t at;

    /* Rows outside of the map are read from inside it, and masked. */
    for (int32_t r = 0; r < 4; r++) {
        const int32_t line = qute_clamp(y + r, 0, rows->size - 1);
        row[r] = input + line * rows->input_step;
        inside[r] = line == y + r ? 0xffffU : 0;
    }
    upper_mask = inside[0] | inside[1] << 16;
    lower_mask = inside[2] | inside[3] << 16;

    for (; i < count && x + i < 0; i++) {
        strip[i].upper = 0;
        strip[i].lower = 0;
    }
    at = (x + i) * columns->input_step;
    for (; i < count && x + i < columns->size; i++) {
        const uint32_t upper = pack(row[0][at], row[1][at]);
        const uint32_t lower = pack(row[2][at], row[3][at]);
        strip[i].upper = qute_sadd16(upper, offset_pair) & upper_mask;
        strip[i].lower = qute_sadd16(lower, offset_pair) & lower_mask;
        at += columns->input_step;
    }
    for (; i < count; i++) {
        strip[i].upper = 0;
        strip[i].lower = 0;
    }
}

/* A 3x3 kernel on `count` columns of a strip: the sum of max(0, .) over `rows` (1 or 2) rows of outputs. */
QUTE_INLINE int32_t sum_of_strip(const column_of_four *strip,
                                 int32_t count,
                                 const qute_head_axis *kernel_rows,
                                 const qute_head_axis *kernel_columns,
                                 const int8_t *weights,
                                 int32_t bias,
                                 int32_t total,
                                 const int32_t rows)
{
    uint32_t w01[KERNEL_3X3];
    uint32_t w12[KERNEL_3X3];
#pragma GCC unroll 3
    for (int32_t j = 0; j < KERNEL_3X3; j++) {
        const int32_t middle = weights[kernel_rows->weight_step];
        w01[j] = pack(weights[0], middle);
        w12[j] = pack(middle, weights[2 * kernel_rows->weight_step]);
        weights += kernel_columns->weight_step;
    }
    do {
        int32_t first = bias;
        int32_t second = bias;
#pragma GCC unroll 3
        for (int32_t j = 0; j < KERNEL_3X3; j++) {
            const uint32_t upper = strip[j].upper;
            const uint32_t lower = strip[j].lower;
            first = qute_smlad(upper, w01[j], first);
            first = qute_smlabt(lower, w12[j], first);
            if (rows == 2) {
                second = qute_smlatb(upper, w01[j], second);
                second = qute_smlad(lower, w12[j], second);
            }
        }
        total += rectified(first);
        if (rows == 2) {
            total += rectified(second);
        }
        strip++;
    } while (--count > 0);
    return total;
}

/* A 3x3 kernel of stride 1 of `heads` heads on one channel. Weights of a head lie `head_step` bytes after those of
 * the one before, biases `bias_step` values. */
static void sums_of_3x3(const qute_head_axis *rows,
                        const qute_head_axis *columns,
                        const int8_t *input,
                        int32_t offset,
                        const int8_t *weights,
                        int32_t head_step,
                        const int32_t *bias,
                        int32_t bias_step,
                        int32_t heads,
                        int32_t *totals)
{
    column_of_four strip[STRIP_COLUMNS + KERNEL_3X3 - 1];
    for (int32_t out_x = 0; out_x < columns->outputs; out_x += STRIP_COLUMNS) {
        const int32_t left = columns->outputs - out_x;
        const int32_t count = left < STRIP_COLUMNS ? left : STRIP_COLUMNS;
        for (int32_t out_y = 0; out_y < rows->outputs; out_y += 2) {
            const int8_t *kernel = weights;
            const int32_t *head_bias = bias;
            load_strip(rows,
                       columns,
                       input,
                       offset,
                       out_y - rows->padding,
                       out_x - columns->padding,
                       count + KERNEL_3X3 - 1,
                       strip);
            for (int32_t head = 0; head < heads; head++) {
                totals[head] = out_y + 1 < rows->outputs
                    ? sum_of_strip(strip, count, rows, columns, kernel, *head_bias, totals[head], 2)
                    : sum_of_strip(strip, count, rows, columns, kernel, *head_bias, totals[head], 1);
                kernel += head_step;
                head_bias += bias_step;
            }
        }
    }
}

#endif

void qute_head_features_relu_s8(const qute_head_features_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_axis rows = qute_head_rows(params);
    const qute_head_axis columns = qute_head_columns(params);
    const int32_t head_step = params->kernel_height * rows.weight_step;

#if QUTE_DSP
    if (rows.taps == KERNEL_3X3 && columns.taps == KERNEL_3X3 && rows.stride == 1 && columns.stride == 1) {
        for (int32_t head = 0; head < params->heads; head += MAX_HEADS_AT_ONCE) {
            const int32_t left = params->heads - head;
            const int32_t heads = left < MAX_HEADS_AT_ONCE ? left : MAX_HEADS_AT_ONCE;
            for (int32_t channel = 0; channel < params->channels; channel++) {
                const int32_t index = head * params->channels + channel;
                int32_t totals[MAX_HEADS_AT_ONCE] = {0};
                sums_of_3x3(&rows,
                            &columns,
                            input + channel,
                            params->input_offset,
                            params->weights + head * head_step + channel,
                            head_step,
                            params->bias + index,
                            params->channels,
                            heads,
                            totals);
                for (int32_t k = 0; k < heads; k++) {
                    const int32_t at = index + k * params->channels;
                    output[at] = qute_head_feature(params, totals[k], at);
                }
            }
        }
        return;
    }
#endif
    for (int32_t head = 0; head < params->heads; head++) {
        const int8_t *weights = params->weights + head * head_step;
        for (int32_t channel = 0; channel < params->channels; channel++) {
            const int32_t index = head * params->channels + channel;
            const int32_t total = sum_of_any(
                &rows, &columns, input + channel, params->input_offset, weights + channel, params->bias[index]);
            output[index] = qute_head_feature(params, total, index);
        }
    }
}
