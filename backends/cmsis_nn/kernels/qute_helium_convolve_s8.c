// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_product.h"

#if QUTE_MVE

/* The windows of one row of outputs, of one group: `input` is the map's first pixel, at the group's first channel. A
 * tap outside the map is the zero point, so that offset and all it adds nothing. */
typedef struct {
    const cmsis_nn_conv_params *params;
    const cmsis_nn_dims *input_dims;
    const cmsis_nn_dims *filter_dims;
    const int8_t *input;
    int32_t row_bytes; /* of a window */
    int32_t pitch;     /* bytes in the map from one of its rows to the next */
    int32_t is_row;    /* whether all channels of neighbouring pixels make a row: neither dilated nor grouped */
    int32_t y;
    qute_taps rows;
} window_row;

/* Copies `count` runs of `bytes` bytes, `pitch` bytes apart, one behind the other; at least one of each. */
QUTE_INLINE void copy_rows(int8_t *target, const int8_t *row, int32_t bytes, int32_t pitch, int32_t count)
{
    const int8_t *source;
    int8_t *to;
    __asm__ volatile("1:\n\t"
                     "mov %[s], %[row]\n\t"
                     "mov %[t], %[target]\n\t"
                     "dlstp.8 lr, %[bytes]\n"
                     "2:\n\t"
                     "vldrb.8 q0, [%[s]], #16\n\t"
                     "vstrb.8 q0, [%[t]], #16\n\t"
                     "letp lr, 2b\n\t"
                     "add %[row], %[row], %[pitch]\n\t"
                     "add %[target], %[target], %[bytes]\n\t"
                     "subs %[count], %[count], #1\n\t"
                     "bne 1b"
                     : [s] "=&r"(source), [t] "=&r"(to), [row] "+&r"(row), [target] "+&r"(target),
                       [count] "+&r"(count)
                     : [bytes] "r"(bytes), [pitch] "r"(pitch)
                     : "q0", "lr", "memory", "cc");
}

/* A row of a window at its first tap inside the map. */
static int8_t *copy_taps(const window_row *from, const int8_t *row, qute_taps columns, int8_t *column)
{
    const int32_t channels = from->filter_dims->c;
    const int32_t taps = columns.end - columns.begin;
    column = qute_helium_fill_s8(column, -from->params->input_offset, columns.begin * channels);
    if (from->is_row) {
        column = qute_helium_copy_s8(column, row, taps * channels);
    } else if (taps > 0) {
        copy_rows(column, row, channels, from->params->dilation.w * from->input_dims->c, taps);
        column += taps * channels;
    }
    return qute_helium_fill_s8(column, -from->params->input_offset, (from->filter_dims->w - columns.end) * channels);
}

/* Any window, from column x of the map on, to `column`. */
QUTE_NOINLINE void copy_window(const window_row *from, int32_t x, int8_t *column)
{
    const cmsis_nn_tile dilation = from->params->dilation;
    const int32_t width = from->input_dims->w;
    const qute_taps columns = qute_valid_taps(x, from->filter_dims->w, dilation.w, width);
    const int32_t y = from->y + from->rows.begin * dilation.h;
    const int8_t *row = from->input + (y * width + x + columns.begin * dilation.w) * from->input_dims->c;

    column = qute_helium_fill_s8(column, -from->params->input_offset, from->rows.begin * from->row_bytes);
    for (int32_t tap = from->rows.begin; tap < from->rows.end; tap++) {
        column = copy_taps(from, row, columns, column);
        row += from->pitch;
    }
    (void)qute_helium_fill_s8(
        column, -from->params->input_offset, (from->filter_dims->h - from->rows.end) * from->row_bytes);
}

/* All windows of a group, three at a time. */
QUTE_NOINLINE void convolve_group(window_row *from,
                                  const qute_helium_product *product,
                                  const cmsis_nn_dims *output_dims,
                                  int8_t *columns,
                                  int8_t *output)
{
    const int32_t height = from->filter_dims->h;
    const int32_t stride = from->params->stride.w;
    const int32_t channels = from->input_dims->c;
    const int32_t dilation = from->params->dilation.w;
    /* The last column at which a window is inside the map. */
    const int32_t last_x = from->input_dims->w - 1 - (from->filter_dims->w - 1) * dilation;
    const int32_t is_one_piece = from->is_row && (height == 1 || from->row_bytes == from->pitch);
    const int8_t *windows[QUTE_HELIUM_PIXELS];
    int32_t count = 0;

    from->y = -from->params->padding.h;
    for (int32_t out_y = 0; out_y < output_dims->h; out_y++) {
        const int8_t *const map_row = from->input + from->y * from->input_dims->w * channels;
        int32_t x = -from->params->padding.w;
        int32_t end_x;
        from->rows = qute_valid_taps(from->y, height, from->params->dilation.h, from->input_dims->h);
        end_x = from->rows.end - from->rows.begin == height ? last_x : -1;
        for (int32_t left = output_dims->w; left > 0; left--) {
            int8_t *const column = columns + count * product->depth;
            windows[count] = column;
            if (x < 0 || x > end_x) {
                copy_window(from, x, column);
            } else if (is_one_piece) {
                windows[count] = map_row + x * channels;
            } else if (from->is_row) {
                copy_rows(column, map_row + x * channels, from->row_bytes, from->pitch, height);
            } else {
                const int8_t *row = map_row + x * channels;
                for (int32_t tap = 0; tap < height; tap++) {
                    copy_rows(column + tap * from->row_bytes,
                              row,
                              from->filter_dims->c,
                              dilation * channels,
                              from->filter_dims->w);
                    row += from->pitch;
                }
            }
            x += stride;
            if (++count == QUTE_HELIUM_PIXELS) {
                qute_helium_product_s8(product, windows, count, output);
                output += count * product->pixel_step;
                count = 0;
            }
        }
        from->y += from->params->stride.h;
    }
    if (count > 0) {
        qute_helium_product_s8(product, windows, count, output);
    }
}

/* Where the sums of each channel begin: bias, and the input offset times the sum of the filter. */
QUTE_NOINLINE void begin_sums(
    const qute_channels *channels, const int8_t *filter, int32_t depth, int32_t offset, int32_t count, int32_t *base)
{
    for (int32_t c = 0; c < count; c++) {
        const int32_t sum = offset != 0 ? qute_helium_sum_s8(filter, depth) : 0;
        base[c] = qute_wrapping_add(qute_bias(channels, c), qute_wrapping_mul(offset, sum));
        filter += depth;
    }
}

void qute_helium_convolve_s8(void *scratch,
                             const cmsis_nn_conv_params *params,
                             const qute_channels *channels,
                             const cmsis_nn_dims *input_dims,
                             const int8_t *input,
                             const cmsis_nn_dims *filter_dims,
                             const int8_t *filter,
                             const cmsis_nn_dims *output_dims,
                             int8_t *output)
{
    const int32_t row_bytes = filter_dims->w * filter_dims->c;
    const int32_t depth = filter_dims->h * row_bytes;
    const int32_t groups = input_dims->c / filter_dims->c;
    const int32_t group_channels = output_dims->c / groups;
    int32_t *const base = (int32_t *)scratch;
    int8_t *const columns = (int8_t *)(base + output_dims->c);
    window_row from = {params,
                       input_dims,
                       filter_dims,
                       input,
                       row_bytes,
                       params->dilation.h * input_dims->w * input_dims->c,
                       params->dilation.w == 1 && groups == 1,
                       0,
                       {0, 0}};
    qute_helium_product product = {filter,
                                   depth,
                                   group_channels,
                                   base,
                                   0,
                                   channels->multiplier,
                                   channels->shift,
                                   qute_helium_shifts_right(channels->shift, output_dims->c),
                                   channels->offset,
                                   channels->min,
                                   channels->max,
                                   output_dims->c};

    begin_sums(channels, filter, depth, params->input_offset, output_dims->c, base);
    for (int32_t batch = 0; batch < input_dims->n; batch++) {
        for (int32_t group = 0; group < groups; group++) {
            const int32_t first = group * group_channels;
            from.input = input + group * filter_dims->c;
            product.weights = filter + first * depth;
            product.base = base + first;
            product.multiplier = channels->multiplier + first;
            product.shift = channels->shift + first;
            convolve_group(&from, &product, output_dims, columns, output + first);
        }
        input += input_dims->h * input_dims->w * input_dims->c;
        output += output_dims->h * output_dims->w * output_dims->c;
    }
}

#endif
