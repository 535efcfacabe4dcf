// SPDX-License-Identifier: Apache-2.0
/* What the small kernels share: the least flash, at a speed that a small kernel can have.
 *
 * Functions of CMSIS-NN's names keep the files of their names; all else has names of its own, so that networks of both
 * kinds of kernels may be linked into one program.
 *
 * They keep to the order of accesses of qute_convolve.h and qute_window.h. Every function is marked QUTE_SMALL, which
 * compiles it for size whatever the project's optimisation is.
 */
#ifndef QUTE_SMALL_H
#define QUTE_SMALL_H

#include "arm_nnfunctions.h"
#include "qute_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether there are the DSP loops of qute_small_multiply_*.c. Their assembly needs the registers of optimised code. */
#if QUTE_DSP && defined(__OPTIMIZE__)
#define QUTE_SMALL_DSP 1
#else
#define QUTE_SMALL_DSP 0
#endif

/* How sums become outputs. `bias` is NULL for none; `step` is 1 for a multiplier and a shift of each channel, 0 for one
 * of all channels. */
typedef struct {
    const int32_t *bias;
    const int32_t *multiplier;
    const int32_t *shift;
    int32_t step;
    int32_t offset;
    int32_t min;
    int32_t max;
} qute_small_scaling;

/* Sums that are kept until they are requantised together. */
#define QUTE_SMALL_SUMS 16

/* Requantises the sums of `count` channels, from `channel` on, into output[channel ...]. */
void qute_small_put(
    const qute_small_scaling *scaling, int32_t channel, int32_t count, const int32_t *sums, int8_t *output);

/* Filters of `depth` weights each, those of channel `first` at `weights`, for channels first <= c < last. */
typedef struct {
    const qute_small_scaling *scaling;
    const int8_t *weights;
    int32_t depth;
    int32_t first;
    int32_t last;
} qute_small_filters;

/* The outputs of one pixel, as it lies in the map; every sum starts at `start`. */
void qute_small_multiply_pixel(
    const qute_small_filters *filters, const int8_t *input, int32_t offset, int32_t start, int8_t *output);

/* The outputs of two pixels, widened into columns; the second one's lie `pixel_step` bytes behind the first one's. */
void qute_small_multiply_pair(
    const qute_small_filters *filters, const int16_t *columns, int32_t pixel_step, int8_t *output);

/* Where value k of a column lies. With DSP: groups of four values of both columns, {0: k, k+2} {1: k, k+2}
 * {0: k+1, k+3} {1: k+1, k+3}, the order in which SXTB16 widens the four weights that they meet. */
QUTE_INLINE int32_t qute_small_column_index(int32_t k)
{
#if QUTE_SMALL_DSP
    return 8 * (k >> 2) + 4 * (k & 1) + ((k >> 1) & 1);
#else
    return 2 * k;
#endif
}

/* int16 values from a value of the first column to that of the second. */
#define QUTE_SMALL_OTHER_COLUMN (QUTE_SMALL_DSP ? 2 : 1)

/* An unpadded, ungrouped 1x1 kernel: it needs no scratch. */
QUTE_INLINE int qute_small_is_pointwise(const cmsis_nn_conv_params *params,
                                        const cmsis_nn_dims *input_dims,
                                        const cmsis_nn_dims *filter_dims)
{
    return filter_dims->h == 1 && filter_dims->w == 1 && filter_dims->c == input_dims->c && params->padding.h == 0 &&
        params->padding.w == 0;
}

/* Windows of a map of `channels` channels, at the first channel of a group. */
typedef struct {
    const cmsis_nn_conv_params *params;
    const cmsis_nn_dims *filter_dims;
    const int8_t *input;
    int32_t height;
    int32_t width;
    int32_t channels;
} qute_small_windows;

/* Writes the window at row y and column x into one column, input offset added. */
void qute_small_write_window(const qute_small_windows *windows, int32_t y, int32_t x, int16_t *column);

/* The mean or the maximum of bytes of a map: `rows` rows of `columns` of them, at least one, from `input` on. */
typedef int32_t qute_small_reduce(
    const int8_t *input, int32_t rows, int32_t columns, int32_t row_step, int32_t column_step);

/* A pool: every channel of every window, clamped. */
arm_cmsis_nn_status qute_small_pool(const cmsis_nn_pool_params *params,
                                    const cmsis_nn_dims *input_dims,
                                    const int8_t *input,
                                    const cmsis_nn_dims *filter_dims,
                                    const cmsis_nn_dims *output_dims,
                                    qute_small_reduce *reduce,
                                    int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
