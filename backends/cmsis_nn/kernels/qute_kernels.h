// SPDX-License-Identifier: Apache-2.0
/* Kernels for which CMSIS-NN has no function. They link next to either library. */
#ifndef QUTE_KERNELS_H
#define QUTE_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* output[i] = table[input[i] + 128] for i < count; table has 256 entries. The output may be the input. */
void qute_lookup_s8(const int8_t *input, const int8_t *table, int8_t *output, int32_t count);

/* output[sum i_k * output_strides[k]] = input[sum i_k * input_strides[k]] for 0 <= i_k < dims[k], strides in
 * bytes. Strides may be negative, and 0 on the input side to repeat. Input and output do not overlap. */
void qute_copy_s8(const int8_t *input,
                  const int32_t dims[4],
                  const int32_t input_strides[4],
                  const int32_t output_strides[4],
                  int8_t *output);

/* output[i] = input[index[i]] for i < count. Input and output do not overlap. */
void qute_gather_s8(const int8_t *input, const uint16_t *index, int8_t *output, int32_t count);

/* output[i] = input[i] for i < count, the last first: the output may begin anywhere from the input's start on. */
void qute_move_s8(const int8_t *input, int8_t *output, int32_t count);

/* The same, the first first: the output may begin anywhere up to the input's start. */
void qute_move_up_s8(const int8_t *input, int8_t *output, int32_t count);

/* An average pool that takes in a map row by row. To the sums [outputs][channels] of each window it adds the `kernel`
 * pixels of the row that are in it; windows are `stride` pixels apart. */
void qute_average_row_s8(
    const int8_t *row, int32_t outputs, int32_t kernel, int32_t stride, int32_t channels, int32_t *sums);

/* The end of it: output[i] = sums[i] / pixels for i < count, rounded half away from zero, from minimum to maximum. */
void qute_average_end_s8(
    const int32_t *sums, int32_t count, int32_t pixels, int32_t minimum, int32_t maximum, int8_t *output);

/* The heads of a QUTE network; qutec/program/head_calls.py has the formulas. int16 and int32 data is aligned to its
 * size. */

/* What all kernels of pooled features share: K heads, each a depthwise convolution of the same int8 map. Weights
 * [heads][kernel][channels], multiplier [heads][channels]. A feature is the sum over all output pixels, times
 * multiplier / 2^16 and cut, divided by 2^shift and rounded (1 <= shift <= 31), clamped to 16 bits. Sums must fit
 * int32. */
typedef struct {
    int32_t heads;
    int32_t channels;
    int32_t input_offset;
    int32_t shift;
    const int8_t *weights;
    const uint16_t *multiplier;
} qute_head_features;

/* Lines of the map: every stride-th from the first on. */
typedef struct {
    uint16_t first;
    uint16_t count;
} qute_head_lines;

/* Lines that the same taps meet on their way over the map: `taps` of them, every stride-th from `tap` on. */
typedef struct {
    qute_head_lines lines;
    uint16_t tap;
    uint16_t taps;
} qute_head_line_class;

/* One axis of a convolution without an activation. Steps are bytes from one line of the map, and from one tap of a
 * kernel, to the next. */
typedef struct {
    int32_t taps;
    int32_t stride;
    int32_t input_step;
    int32_t weight_step;
} qute_head_sum_axis;

/* Each line of the outer axis that a tap meets is in one class. columns[tap] are the lines of the inner axis that its taps
 * meet. For kernels of four channels no class has more than 128 pixels. */
typedef struct {
    qute_head_features features;
    qute_head_sum_axis outer;
    qute_head_sum_axis inner;
    int32_t class_count;
    const qute_head_line_class *classes;
    const qute_head_lines *columns;
} qute_head_sums_params;

/* output[head][channel], without a bias: up to four heads share one reading of the map. */
void qute_head_sums_s8(const qute_head_sums_params *params, const int8_t *input, int16_t *output);

/* The same for at least four channels: four at a time where there are DSP instructions. */
void qute_head_sums_s8x4(const qute_head_sums_params *params, const int8_t *input, int16_t *output);

/* One axis of a convolution with an activation. `padding` is that before the first line. */
typedef struct {
    int32_t size;
    int32_t taps;
    int32_t outputs;
    int32_t stride;
    int32_t padding;
    int32_t input_step;
    int32_t weight_step;
} qute_head_axis;

typedef struct {
    qute_head_features features;
    qute_head_axis outer;
    qute_head_axis inner;
    int32_t bias_shift;
    const int16_t *bias;
} qute_head_relu_params;

/* output[head][channel]: bias * 2^bias_shift is added to each output pixel, and max(0, .) summed. */
void qute_head_relu_s8(const qute_head_relu_params *params, const int8_t *input, int16_t *output);

/* The same for at least four channels: four at a time where there are DSP instructions. */
void qute_head_relu_s8x4(const qute_head_relu_params *params, const int8_t *input, int16_t *output);

/* The same for kernels of 3x3 and stride 1, every window of which meets the map. Weights are [heads][channels][inner
 * axis][outer axis]. */
void qute_head_relu_3x3_s8x4(const qute_head_relu_params *params, const int8_t *input, int16_t *output);

/* Sums of features that take in the map row by row are [channels][heads]; of at least four channels, where there are DSP
 * instructions, [blocks][heads][4], the channels of the last block ending with those of the map. They begin with 0. */

/* Pixels of a row, every stride-th from the first on, that meet the same taps are in one class, and so are rows, or in
 * none, -1, where no tap meets them. weights[row class][pixel class][head][channel] are the sums over these taps;
 * features.weights is not used. */
typedef struct {
    qute_head_features features;
    int32_t stride;
    int32_t pixel_classes;
    const qute_head_lines *pixels;
    const int16_t *row_classes;
    const int16_t *weights;
} qute_head_sums_row_params;

/* What row `number` of the map adds to the sums. */
void qute_head_sums_row_s8(const qute_head_sums_row_params *params, const int8_t *row, int32_t number, int32_t *sums);

/* The same for at least four channels, and no class of more than 128 pixels. */
void qute_head_sums_row_s8x4(const qute_head_sums_row_params *params, const int8_t *row, int32_t number, int32_t *sums);

/* What the next row of outputs adds, whose window has `count` rows inside of the map and `above` of padding over them.
 * `params` has the rows for its outer axis. */
void qute_head_relu_row_s8(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums);
void qute_head_relu_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums);
void qute_head_relu_3x3_row_s8x4(
    const qute_head_relu_params *params, const int8_t *rows, int32_t count, int32_t above, int32_t *sums);

/* The features of such sums. */
void qute_head_end_s8(const qute_head_features *features, const int32_t *sums, int16_t *output);
void qute_head_end_s8x4(const qute_head_features *features, const int32_t *sums, int16_t *output);

/* The dense layer of each head, on its own features: weights [heads][classes][inputs], the others
 * [heads][classes]. */
typedef struct {
    int32_t heads;
    int32_t classes;
    int32_t inputs;
    int32_t input_offset;
    int32_t limit; /* sums are clamped to it, so that no logit leaves 32 bits */
    int32_t left_shift;
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multiplier;
} qute_head_logits_params;

/* output[head][class] = (sum of weights * input[head]) * 2^left_shift * multiplier / 2^31, rounded, plus bias.
 * input_offset is not used. */
void qute_head_logits_s16(const qute_head_logits_params *params, const int16_t *input, int32_t *output);

/* The same for int8 features, to which input_offset is added. */
void qute_head_logits_s8(const qute_head_logits_params *params, const int8_t *input, int32_t *output);

#define QUTE_MAX_HEADS 16

/* The mean of the heads' softmaxes. logits [heads][classes] are to base 2, times 2^20; up to QUTE_MAX_HEADS heads
 * and 4096 classes. Into the output go `classes` probabilities times 2^30, then label, confidence times 2^30,
 * entropy and disagreement of the heads in nats times 2^16, and 1 where confidence < abstain_below, else 0. */
void qute_head_uncertainty_s32(
    const int32_t *logits, int32_t heads, int32_t classes, int32_t abstain_below, int32_t *output);

#ifdef __cplusplus
}
#endif

#endif
