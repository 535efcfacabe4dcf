// SPDX-License-Identifier: Apache-2.0
/* The convolutions behind arm_convolve_wrapper_s8 and what they share.
 *
 * Order of accesses, which a memory planner may rely on to let an output overlap its input:
 * - Output pixels are written in row-major order, in blocks of up to five: by qute_convolve_five_s8 of any pixels that
 *   follow each other, else of neighbours in a row. In unpadded 1x1 kernels of stride 1 a block is
 *   any pixels consecutive in memory.
 * - While pixels of output row r are written, input is read from row r * stride - padding on only.
 * - While a block is written, input is read only for this block and those behind it: a kernel looks ahead, never behind.
 *   What a block of up to two pixels itself needs may be read until its last byte is written (by grouped kernels, and by
 *   1x1 kernels of more than 64 channels); all other kernels have read it before they write the first. */
#ifndef QUTE_CONVOLVE_H
#define QUTE_CONVOLVE_H

#include "arm_nnfunctions.h"
#include "qute_blocks.h"
#include "qute_requantize.h"
#include "qute_window.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Per-channel requantisation; what it clamps to is applied afterwards, see qute_clamp_s8. */
typedef struct {
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t offset;
    int32_t min;
    int32_t max;
    int32_t checked; /* whether it is known that qute_sums_can_scale */
} qute_channels;

/* What a pair of pixels is multiplied with: filters of `depth` weights, for channels first <= c < last. Outputs of the
 * two pixels lie `pixel_step` bytes apart. */
typedef struct {
    const qute_channels *channels;
    const int8_t *weights;
    int32_t depth;
    int32_t first;
    int32_t last;
    int32_t pixel_step;
} qute_product;

/* Values of two pixels, the second `step` bytes behind the first, that found no room in the columns. */
typedef struct {
    const int8_t *input;
    int32_t step;
    int32_t count;
    int32_t offset;
} qute_rest;

/* The input windows of one row of outputs: `input` is the map's first pixel, at the group's first channel. */
typedef struct {
    const cmsis_nn_conv_params *params;
    const cmsis_nn_dims *input_dims;
    const cmsis_nn_dims *filter_dims;
    const int8_t *input;
    int32_t y;
    qute_taps rows;
} qute_windows;

/* An unpadded, ungrouped 1x1 kernel: a matrix product on the input as it lies. */
QUTE_INLINE int qute_is_pointwise(const cmsis_nn_conv_params *params,
                                  const cmsis_nn_dims *input_dims,
                                  const cmsis_nn_dims *filter_dims)
{
    return filter_dims->h == 1 && filter_dims->w == 1 && filter_dims->c == input_dims->c && params->padding.h == 0 &&
        params->padding.w == 0;
}

/* int16 values of one column: whole groups of four. */
QUTE_INLINE int32_t qute_column_length(int32_t depth)
{
    return (depth + 3) & ~3;
}

QUTE_INLINE int32_t qute_bias(const qute_channels *channels, int32_t channel)
{
    return channels->bias ? channels->bias[channel] : 0;
}

/* Columns of int16 values, input offset added.
 *
 * Plain C: value k of column p at [k * columns + p]. DSP: groups of four values of all columns, of two of them
 * {0: k, k+2} {1: k, k+2} {0: k+1, k+3} {1: k+1, k+3}, so that one pointer reads them in the order in which
 * SXTB16 widens the four weights they meet. Where the depth is not a multiple of four, zeros end the last group. */

/* `depth` values from `pixel` on as column number `column` of `columns`. */
void qute_widen_s16(
    const int8_t *pixel, int32_t depth, int32_t offset, int32_t column, int32_t columns, int16_t *values);

/* The window of one pixel, from column x of the input on, as column number `column` of `columns`. */
void qute_window_column_s16(
    const qute_windows *windows, int32_t x, int32_t column, int32_t columns, int16_t *values);

/* The windows of two pixels, the first from column x of the input on. */
void qute_window_pair_s16(const qute_windows *windows, int32_t x, int16_t *values);

/* Two pixels of output, from columns of depth - rest->count values and that rest; saturated, not clamped. */
void qute_multiply_pair_s16(
    const qute_product *product, const int16_t *columns, const qute_rest *rest, int8_t *output);

/* Pixels that qute_multiply_five_s16 computes. */
#define QUTE_FIVE 5

/* Bytes of its columns: where they do not end with a group, the weights of a channel have to find room behind them. */
QUTE_INLINE int32_t qute_five_bytes(int32_t depth)
{
    const int32_t length = qute_column_length(depth);
    return 2 * QUTE_FIVE * length + (length == depth ? 0 : length);
}

/* Whether `count` channels with windows of `depth` values have biases, and sums and multipliers for qute_scaling.h. */
#if QUTE_BLOCKS
int qute_sums_can_scale(const qute_channels *channels, int32_t count, int32_t depth);
#else
#define qute_sums_can_scale(channels, count, depth) 0
#endif

/* Five pixels of output, from columns in a buffer of qute_five_bytes, for channels that qute_sums_can_scale; saturated, not
 * clamped. */
void qute_multiply_five_s16(const qute_product *product, int16_t *columns, int8_t *output);

/* Pixels that qute_multiply_strip_s16 computes from a strip of the map, two columns wider than they are. */
#define QUTE_STRIP 4

/* Whether it can, if qute_sums_can_scale too: a kernel of three columns that moves by one, and whole groups of channels. */
QUTE_INLINE int qute_can_multiply_strip(const cmsis_nn_conv_params *params,
                                        const cmsis_nn_dims *input_dims,
                                        const cmsis_nn_dims *filter_dims)
{
    return QUTE_BLOCKS && filter_dims->w == 3 && params->stride.w == 1 &&
        params->dilation.w == 1 && filter_dims->c == input_dims->c && (filter_dims->c & 3) == 0;
}

/* The strip of four pixels, the first window from column x of the input on: row by row, for each four channels
 * {k, k+2} of the six columns, then {k+1, k+3}. It takes as much memory as two columns. */
void qute_window_strip_s16(const qute_windows *windows, int32_t x, int16_t *strip);

/* Four pixels of output, from a strip of `rows` rows, for channels that qute_sums_can_scale; saturated, not clamped. */
void qute_multiply_strip_s16(const qute_product *product, const int16_t *strip, int32_t rows, int8_t *output);

/* One pixel of output, from one column; saturated, not clamped. */
void qute_multiply_single_s16(const qute_product *product, const int16_t *columns, int8_t *output);

/* Convolutions without groups for which qute_sums_can_scale. `columns` has qute_five_bytes. */
void qute_convolve_five_s8(int16_t *columns,
                            const cmsis_nn_conv_params *params,
                            const qute_channels *channels,
                            const cmsis_nn_dims *input_dims,
                            const int8_t *input,
                            const cmsis_nn_dims *filter_dims,
                            const int8_t *filter,
                            const cmsis_nn_dims *output_dims,
                            int8_t *output);

/* Pointwise convolution of any stride, without scratch. */
void qute_convolve_1x1_s8(const cmsis_nn_conv_params *params,
                          const qute_channels *channels,
                          const cmsis_nn_dims *input_dims,
                          const int8_t *input,
                          const int8_t *filter,
                          const cmsis_nn_dims *output_dims,
                          int8_t *output);

/* Any convolution, grouped or not. `columns` holds two columns of qute_column_length values. */
void qute_convolve_s8(int16_t *columns,
                      const cmsis_nn_conv_params *params,
                      const qute_channels *channels,
                      const cmsis_nn_dims *input_dims,
                      const int8_t *input,
                      const cmsis_nn_dims *filter_dims,
                      const int8_t *filter,
                      const cmsis_nn_dims *output_dims,
                      int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
