// SPDX-License-Identifier: Apache-2.0
/* The subset of the CMSIS-NN API that qutec emits, as the bundled kernels implement it.
 *
 * Signatures are those of CMSIS-NN v4.0.0 and later; results are equal bit for bit (double rounding). Feature
 * maps are NHWC. Data pointers need no alignment; ctx->buf needs 4 bytes. A kernel whose getter returns 0
 * never touches ctx->buf, which may be NULL. Bias pointers may be NULL.
 */
#ifndef ARM_NNFUNCTIONS_H
#define ARM_NNFUNCTIONS_H

#include "arm_nn_types.h"

/* Pointwise convolutions write their pixels in order and read none of them again: the output may overlap pixels
 * that are finished with. Arm's library walks the map several times, so that it is handed one piece at a time. */
#define QUTE_POINTWISE_IN_ORDER 1

#ifdef CMSIS_NN_USE_SINGLE_ROUNDING
#error "the bundled kernels round twice; link Arm's CMSIS-NN for CMSIS_NN_USE_SINGLE_ROUNDING"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Convolution, any kernel, stride, padding and dilation; grouped where filter_dims->c < input_dims->c.
 * ARG_ERROR when scratch is needed and absent, or when channels do not divide into groups. */
arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx,
                                            const cmsis_nn_conv_params *conv_params,
                                            const cmsis_nn_per_channel_quant_params *quant_params,
                                            const cmsis_nn_dims *input_dims,
                                            const int8_t *input_data,
                                            const cmsis_nn_dims *filter_dims,
                                            const int8_t *filter_data,
                                            const cmsis_nn_dims *bias_dims,
                                            const int32_t *bias_data,
                                            const cmsis_nn_dims *output_dims,
                                            int8_t *output_data);

/* Bytes of scratch of arm_convolve_wrapper_s8: two int16 columns (with Helium three windows, and a word a channel), or
 * 0 for an unpadded 1x1 kernel. */
int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *conv_params,
                                                const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims,
                                                const cmsis_nn_dims *output_dims);

/* Depthwise convolution; input channel c gives the output channels c * ch_mult ... c * ch_mult + ch_mult - 1.
 * Filter {1, KH, KW, C * ch_mult}. */
arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx,
                                                  const cmsis_nn_dw_conv_params *dw_conv_params,
                                                  const cmsis_nn_per_channel_quant_params *quant_params,
                                                  const cmsis_nn_dims *input_dims,
                                                  const int8_t *input_data,
                                                  const cmsis_nn_dims *filter_dims,
                                                  const int8_t *filter_data,
                                                  const cmsis_nn_dims *bias_dims,
                                                  const int32_t *bias_data,
                                                  const cmsis_nn_dims *output_dims,
                                                  int8_t *output_data);

/* Bytes of scratch of arm_depthwise_conv_wrapper_s8: see qute_depthwise_scratch; with Helium, three words a channel and
 * a word a tap. */
int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *dw_conv_params,
                                                      const cmsis_nn_dims *input_dims,
                                                      const cmsis_nn_dims *filter_dims,
                                                      const cmsis_nn_dims *output_dims);

/* input_dims->n rows of filter_dims->n values times the transpose of a filter [output_dims->c][filter_dims->n]. */
arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx,
                                           const cmsis_nn_fc_params *fc_params,
                                           const cmsis_nn_per_tensor_quant_params *quant_params,
                                           const cmsis_nn_dims *input_dims,
                                           const int8_t *input_data,
                                           const cmsis_nn_dims *filter_dims,
                                           const int8_t *filter_data,
                                           const cmsis_nn_dims *bias_dims,
                                           const int32_t *bias_data,
                                           const cmsis_nn_dims *output_dims,
                                           int8_t *output_data);

/* 0: the bundled kernel needs no sums of the filter rows. */
int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *filter_dims);

/* vector_sum_buf[r] = bias[r] + lhs_offset * sum over the row of (value + rhs_offset), as CMSIS-NN v7 defines it.
 * Arm's fully connected kernel for Helium wants it in ctx->buf; the bundled one does not. */
arm_cmsis_nn_status arm_vector_sum_s8(int32_t *vector_sum_buf,
                                      const int32_t vector_cols,
                                      const int32_t vector_rows,
                                      const int8_t *vector_data,
                                      const int32_t lhs_offset,
                                      const int32_t rhs_offset,
                                      const int32_t *bias_data);

/* Mean over the valid pixels of the window, rounded half away from zero. ARG_ERROR when a window has none. */
arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx,
                                   const cmsis_nn_pool_params *pool_params,
                                   const cmsis_nn_dims *input_dims,
                                   const int8_t *input_data,
                                   const cmsis_nn_dims *filter_dims,
                                   const cmsis_nn_dims *output_dims,
                                   int8_t *output_data);

/* 0: the bundled kernel needs no scratch. */
int32_t arm_avgpool_s8_get_buffer_size(const int dim_dst_width, const int ch_src);

/* Maximum over the valid pixels of the window. ARG_ERROR when a window has none. */
arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx,
                                    const cmsis_nn_pool_params *pool_params,
                                    const cmsis_nn_dims *input_dims,
                                    const int8_t *input_data,
                                    const cmsis_nn_dims *filter_dims,
                                    const cmsis_nn_dims *output_dims,
                                    int8_t *output_data);

/* Softmax of each row; output scale 1/256, zero point -128. */
void arm_softmax_s8(const int8_t *input,
                    const int32_t num_rows,
                    const int32_t row_size,
                    const int32_t mult,
                    const int32_t shift,
                    const int32_t diff_min,
                    int8_t *output);

/* Each input is shifted left, requantised and added; the sum is requantised. Multipliers may be negative.
 * The output may be either input. */
arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *input_1_vect,
                                           const int8_t *input_2_vect,
                                           const int32_t input_1_offset,
                                           const int32_t input_1_mult,
                                           const int32_t input_1_shift,
                                           const int32_t input_2_offset,
                                           const int32_t input_2_mult,
                                           const int32_t input_2_shift,
                                           const int32_t left_shift,
                                           int8_t *output,
                                           const int32_t out_offset,
                                           const int32_t out_mult,
                                           const int32_t out_shift,
                                           const int32_t out_activation_min,
                                           const int32_t out_activation_max,
                                           const int32_t block_size);

/* The output may be either input. */
arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *input_1_vect,
                                           const int8_t *input_2_vect,
                                           const int32_t input_1_offset,
                                           const int32_t input_2_offset,
                                           int8_t *output,
                                           const int32_t out_offset,
                                           const int32_t out_mult,
                                           const int32_t out_shift,
                                           const int32_t out_activation_min,
                                           const int32_t out_activation_max,
                                           const int32_t block_size);

/* Copies input_y * input_z * input_w rows of input_x bytes to rows of output_x bytes, offset_x bytes in. */
void arm_concatenation_s8_x(const int8_t *input,
                            const uint16_t input_x,
                            const uint16_t input_y,
                            const uint16_t input_z,
                            const uint16_t input_w,
                            int8_t *output,
                            const uint16_t output_x,
                            const uint32_t offset_x);

#ifdef __cplusplus
}
#endif

#endif
