// SPDX-License-Identifier: Apache-2.0
#include "qute_depthwise.h"
#include "qute_depthwise_blocks.h"

#if QUTE_DEPTHWISE_S8X4

/* Below this width a widened filter is not used often enough to be worth its making. */
#define MIN_WIDTH_FOR_WIDENING 3

#define BIAS_WORDS 4

static const int32_t no_bias[4] = {0, 0, 0, 0};

/* One output row. Steps are in bytes; rows are those of the window that lie inside the map. */
typedef struct {
    const qute_depthwise *call;
    const int8_t *filter;
    int32_t rows;
    int32_t columns;
    int32_t row_step;
    int32_t column_step;
    int32_t pixel_step;
    int32_t padding; /* on the left */
    int32_t channels;
    uint32_t offset;
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t output_offset;
    int32_t width;
    int32_t out_width;
    /* Pixels inner_begin <= x < inner_end have all columns of the window inside the map. */
    int32_t inner_begin;
    int32_t inner_end;
    /* These pixels from column 0 of the map and pixel 0 of the row on, in bytes. */
    int32_t inner_input;
    int32_t inner_output;
    int32_t inner_output_end;
} row;

/* Four channels of the row: column 0 of the first of its rows of the map, its first pixel, and what every pixel
 * needs. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint32_t *filter;
    uint32_t *scaling;
    /* Biases, the widened words of a filter that is small, and the four scalings, one behind the other. */
    uint32_t words[BIAS_WORDS + QUTE_DEPTHWISE_TAPS_ON_STACK * 2 + 12];
} block;

/* The block of four channels after that at `channel`; the last one overlaps the one before it if need be. */
QUTE_INLINE int32_t next_block(int32_t channel, int32_t channels)
{
    return channel + 8 <= channels ? channel + 4 : channels - 4;
}

/* The filter of four channels: `rows` rows of `columns` columns, taps `step` bytes apart. */
QUTE_INLINE void widen(const int8_t *filter, int32_t columns, int32_t step, int32_t rows, uint32_t *words)
{
    const int32_t row_step = columns * step;
    for (int32_t x = columns; x > 0; x--) {
        const int8_t *tap = filter;
        int32_t left = rows;
        for (; left >= 2; left -= 2) {
            words = qute_widen_two(words, qute_load_s8x4(tap), qute_load_s8x4(tap + row_step));
            tap += 2 * row_step;
        }
        if (left) {
            words = qute_widen_one(words, qute_load_s8x4(tap));
        }
        filter += step;
    }
}

QUTE_NOINLINE void prepare_channels(const row *r, int32_t channel, block *b)
{
    const int32_t *multiplier = r->multiplier + channel;
    const int32_t *shift = r->shift + channel;
    const int32_t offset = r->output_offset;
    uint32_t *scaling = b->scaling;

    memcpy(b->words, r->bias ? r->bias + channel : no_bias, sizeof no_bias);
#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; i++) {
        scaling = qute_store_scaling(scaling, multiplier[i], shift[i], offset);
    }
    widen(r->filter + channel, r->columns, r->channels, r->rows, b->filter);
}

/* `count` pixels from out_x on, all of which have the same columns of the window inside the map. */
QUTE_NOINLINE void any_pixels(const row *r, const block *b, int32_t out_x, int32_t count, qute_taps columns)
{
    const int32_t row_step = r->row_step;
    const int32_t column_step = r->column_step;
    const uint32_t offset = r->offset;
    const int32_t at = out_x * r->pixel_step - r->padding + columns.begin * column_step;
    const int8_t *input = b->input + (columns.begin < columns.end ? at : 0);
    int8_t *output = b->output + out_x * r->channels;
    for (; count > 0; count--) {
        const uint32_t *filter = b->filter + columns.begin * 2 * r->rows;
        const int8_t *column = input;
        qute_sums sums;
        (void)qute_start_sums(&sums, b->words);
        for (int32_t x = columns.end - columns.begin; x > 0; x--) {
            const int8_t *tap = column;
            int32_t left = r->rows;
            for (; left >= 2; left -= 2) {
                filter = qute_add_two_rows(&sums, tap, row_step, filter, offset);
                tap += 2 * row_step;
            }
            if (left) {
                filter = qute_add_one_row(&sums, tap, filter, offset);
            }
            column += column_step;
        }
        qute_store_s8x4(output, qute_scale_four(&sums, b->scaling));
        input += r->pixel_step;
        output += r->channels;
    }
}

QUTE_NOINLINE void any_row(const row *r, const block *b)
{
    int32_t x = 0;
    while (x < r->out_width) {
        qute_taps columns = {0, r->columns};
        int32_t count = 1;
        if (x == r->inner_begin) {
            count = r->inner_end - x;
        } else {
            columns = qute_depthwise_columns(r->call, x);
        }
        any_pixels(r, b, x, count, columns);
        x += count;
    }
}

/* A row for a kernel of three columns, of which 2 or 3 rows lie inside the map. */
static void three_columns(const row *r, const int8_t *input, int8_t *output)
{
    const int32_t last = r->channels - 4;
    qute_depthwise_group group;
    group.filter_row_step = 3 * r->channels;
    group.channels = r->channels;
    group.output_offset = 2 * r->output_offset + 1;
    group.row_step = r->row_step;
    group.input_offset = r->offset;
    group.pixel_step = r->pixel_step - 2 * r->channels;
    group.is_left_padded = r->inner_begin;
    for (int32_t channel = 0;; channel = channel + 4 <= last ? channel + 4 : last) {
        group.filter = r->filter + channel;
        group.bias = r->bias ? r->bias + channel : no_bias;
        group.multiplier = r->multiplier + channel;
        group.shift = r->shift + channel;
        group.input = input + channel;
        group.output = output + channel;
        group.inner_end = output + channel + r->inner_output_end;
        group.column_step = r->channels;
        group.is_right_padded = r->out_width - r->inner_end;
        qute_depthwise_three_columns(&group, r->rows);
        if (channel == last) {
            break;
        }
    }
}

/* A row without widened filters and scalings, which are not worth their making for a pixel or two. */
QUTE_NOINLINE void narrow_row(const row *r, const int8_t *input, int8_t *output)
{
    for (int32_t out_x = 0; out_x < r->out_width; out_x++) {
        const qute_taps columns = qute_depthwise_columns(r->call, out_x);
        for (int32_t channel = 0;; channel = next_block(channel, r->channels)) {
            const int32_t at = out_x * r->pixel_step - r->padding + columns.begin * r->column_step + channel;
            const int8_t *row_input = input + (columns.begin < columns.end ? at : 0);
            const int8_t *row_filter = r->filter + channel + columns.begin * r->channels;
            /* In registers, unlike `values`, whose address is passed on. */
            int32_t sums[4] = {0, 0, 0, 0};
            int32_t values[4];
            for (int32_t y = r->rows; y > 0; y--) {
                const int8_t *tap = row_input;
                const int8_t *filter = row_filter;
                for (int32_t x = columns.end - columns.begin; x > 0; x--) {
                    const uint32_t taps = qute_load_s8x4(tap);
                    const uint32_t weights = qute_load_s8x4(filter);
                    const uint32_t even = qute_sxtab16(r->offset, taps);
                    const uint32_t odd = qute_sxtab16_odd(r->offset, taps);
                    const uint32_t even_weights = qute_sxtb16(weights);
                    const uint32_t odd_weights = qute_sxtb16_odd(weights);
                    sums[0] = qute_smlabb(even, even_weights, sums[0]);
                    sums[1] = qute_smlabb(odd, odd_weights, sums[1]);
                    sums[2] = qute_smlatt(even, even_weights, sums[2]);
                    sums[3] = qute_smlatt(odd, odd_weights, sums[3]);
                    tap += r->column_step;
                    filter += r->channels;
                }
                row_input += r->row_step;
                row_filter += r->columns * r->channels;
            }
            values[0] = sums[0];
            values[1] = sums[1];
            values[2] = sums[2];
            values[3] = sums[3];
            qute_depthwise_store_s8x4(r->call, channel, values, output + channel);
            if (channel == r->channels - 4) {
                break;
            }
        }
        output += r->channels;
    }
}

QUTE_NOINLINE void place_inner(const qute_depthwise *call, row *r)
{
    const int32_t stride = call->params->stride.w;
    const int32_t padding = call->params->padding.w;
    const int32_t extent = (call->filter_dims->w - 1) * call->params->dilation.w;
    const int32_t last = call->input_dims->w - 1 - extent + padding;
    const int32_t end = last < 0 ? 0 : last / stride + 1;
    r->inner_begin = (padding + stride - 1) / stride;
    r->inner_end = end < r->out_width ? end : r->out_width;
    if (r->inner_begin >= r->inner_end) {
        r->inner_begin = r->out_width;
        r->inner_end = r->out_width;
    }
    r->inner_input = r->inner_begin * r->pixel_step - r->padding;
    r->inner_output = r->inner_begin * r->channels;
    r->inner_output_end = r->inner_end * r->channels;
}

/* Whether the windows of at most one pixel at either end lack a column, and only one. */
QUTE_NOINLINE int has_narrow_edges(const row *r)
{
    const cmsis_nn_dw_conv_params *params = r->call->params;
    const int32_t after_inner = r->inner_end * params->stride.w - params->padding.w;
    const int is_narrow = r->inner_end + 1 == r->out_width && after_inner == r->width - 2;
    return params->dilation.w == 1 && params->padding.w <= 1 && r->inner_begin < r->inner_end &&
        (r->inner_end == r->out_width || is_narrow);
}

/* Any row whose filter is worth widening. */
static void wide_row(const row *r, const int8_t *input, int8_t *output)
{
    const int is_small = r->call->filter_dims->h * r->columns <= QUTE_DEPTHWISE_TAPS_ON_STACK;
    const int32_t last = r->channels - 4;
    block b;

    b.filter = is_small ? b.words + BIAS_WORDS : r->call->scratch;
    b.scaling = b.words + BIAS_WORDS + (is_small ? 2 * r->rows * r->columns : 0);
    for (int32_t channel = 0;; channel = channel + 4 <= last ? channel + 4 : last) {
        b.input = input + channel;
        b.output = output + channel;
        prepare_channels(r, channel, &b);
        any_row(r, &b);
        if (channel == last) {
            break;
        }
    }
}

void qute_depthwise_row_s8x4(const qute_depthwise *call, int32_t out_y)
{
    const cmsis_nn_dw_conv_params *params = call->params;
    const int32_t channels = call->input_dims->c;
    const qute_taps rows = qute_depthwise_rows(call, out_y);
    const int32_t y = qute_depthwise_first_row(call, out_y, rows);
    const int32_t is_small = call->filter_dims->h * call->filter_dims->w <= QUTE_DEPTHWISE_TAPS_ON_STACK;
    const int8_t *input;
    int8_t *output;
    row r;

    r.call = call;
    r.rows = rows.end - rows.begin;
    r.columns = call->filter_dims->w;
    r.width = call->input_dims->w;
    r.out_width = call->output_dims->w;
    r.channels = channels;
    r.column_step = params->dilation.w * channels;
    r.row_step = params->dilation.h * r.width * channels;
    r.pixel_step = params->stride.w * channels;
    r.padding = params->padding.w * channels;
    r.offset = qute_pair(params->input_offset);
    r.bias = call->bias;
    r.multiplier = call->quant->multiplier;
    r.shift = call->quant->shift;
    r.output_offset = params->output_offset;
    r.filter = call->filter + rows.begin * r.columns * channels;
    place_inner(call, &r);
    input = call->input + y * r.width * channels;
    output = call->output + out_y * r.out_width * channels;
    if (call->can_scale && (r.rows == 2 || r.rows == 3) && r.columns == 3 && has_narrow_edges(&r)) {
        three_columns(&r, input, output);
    } else if (call->can_scale && r.out_width >= MIN_WIDTH_FOR_WIDENING && (is_small || call->scratch != NULL)) {
        wide_row(&r, input, output);
    } else {
        narrow_row(&r, input, output);
        return;
    }
    qute_clamp_s8(output, r.out_width * channels, params->activation.min, params->activation.max);
}

#endif
