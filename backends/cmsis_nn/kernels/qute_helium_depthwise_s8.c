// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_depthwise.h"

#if QUTE_MVE

/* Sixteen channels at a time. Products have 16 bits, those of even channels in one vector and those of odd ones in
 * another; two taps are added in 16 bits before the sums are widened, unless a weight is -128, when two products could
 * make 2^15.
 *
 * A table says where the taps of a window are. A tap outside the map is a pixel of zero points: all windows have all
 * taps, and the input offset times the sum of a filter is in what its sums begin at. */

#define LANES 16

/* What 16 channels are computed with: channel 4 i + k is lane i of vector k. Blocks follow each other; where 16 do not
 * divide the channels, the last block has channels of the one before it once more. */
typedef struct {
    int32_t base[4][4];
    int32_t multiplier[4][4];
    int32_t shift[4][4];
} block;

typedef struct {
    const qute_depthwise *call;
    const block *blocks;
    const int8_t **taps;
    const int8_t *zero_points;
    int32_t tap_count;
    int32_t pairs; /* of taps that can be added in 16 bits */
} depthwise;

/* Sums of 16 channels, as in a block. */
typedef struct {
    int32x4_t of[4];
} lane_sums;

/* The first channel of the block that would begin at `first`. */
QUTE_INLINE int32_t first_channel(int32_t first, int32_t channels)
{
    return first + LANES <= channels || channels < LANES ? first : channels - LANES;
}

/* Widens the products of even and odd channels in q6 and q7 and adds them to the sums in q0 to q3. */
#define ADD_PRODUCTS                                                                                                   \
    "vmovlb.s16 q4, q6\n\t"                                                                                            \
    "vadd.i32 q0, q0, q4\n\t"                                                                                          \
    "vmovlt.s16 q4, q6\n\t"                                                                                            \
    "vadd.i32 q2, q2, q4\n\t"                                                                                          \
    "vmovlb.s16 q4, q7\n\t"                                                                                            \
    "vadd.i32 q1, q1, q4\n\t"                                                                                          \
    "vmovlt.s16 q4, q7\n\t"                                                                                            \
    "vadd.i32 q3, q3, q4\n\t"

/* Sixteen channels of a window. All vector registers are taken, so that the second tap of a pair is loaded twice:
 * 25 instructions for 32 products. */
QUTE_INLINE lane_sums multiply_whole(const depthwise *d, const block *with, int32_t channel)
{
    const int8_t *weight = d->call->filter + channel;
    const int8_t *const *tap = d->taps;
    const int8_t *x0, *x1;
    register int32x4_t s0 __asm__("q0") = vldrwq_s32(with->base[0]);
    register int32x4_t s1 __asm__("q1") = vldrwq_s32(with->base[1]);
    register int32x4_t s2 __asm__("q2") = vldrwq_s32(with->base[2]);
    register int32x4_t s3 __asm__("q3") = vldrwq_s32(with->base[3]);
    __asm__ volatile("wls lr, %[pairs], 2f\n"
                     "1:\n\t"
                     "ldrd %[x0], %[x1], [%[tap]], #8\n\t"
                     "add %[x0], %[x0], %[channel]\n\t"
                     "add %[x1], %[x1], %[channel]\n\t"
                     "vldrb.8 q4, [%[x0]]\n\t"
                     "vldrb.8 q5, [%[w]]\n\t"
                     "add %[w], %[w], %[step]\n\t"
                     "vmullb.s8 q6, q4, q5\n\t"
                     "vmullt.s8 q7, q4, q5\n\t"
                     "vldrb.8 q4, [%[x1]]\n\t"
                     "vldrb.8 q5, [%[w]]\n\t"
                     "add %[w], %[w], %[step]\n\t"
                     "vmullb.s8 q4, q4, q5\n\t"
                     "vadd.i16 q6, q6, q4\n\t"
                     "vldrb.8 q4, [%[x1]]\n\t"
                     "vmullt.s8 q4, q4, q5\n\t"
                     "vadd.i16 q7, q7, q4\n\t" ADD_PRODUCTS
                     "le lr, 1b\n"
                     "2:\n\t"
                     "wls lr, %[rest], 4f\n"
                     "3:\n\t"
                     "ldr %[x0], [%[tap]], #4\n\t"
                     "add %[x0], %[x0], %[channel]\n\t"
                     "vldrb.8 q4, [%[x0]]\n\t"
                     "vldrb.8 q5, [%[w]]\n\t"
                     "add %[w], %[w], %[step]\n\t"
                     "vmullb.s8 q6, q4, q5\n\t"
                     "vmullt.s8 q7, q4, q5\n\t" ADD_PRODUCTS
                     "le lr, 3b\n"
                     "4:"
                     : [x0] "=&r"(x0), [x1] "=&r"(x1), [tap] "+&r"(tap), [w] "+&r"(weight), "+w"(s0), "+w"(s1),
                       "+w"(s2), "+w"(s3)
                     : [pairs] "r"(d->pairs), [rest] "r"(d->tap_count - 2 * d->pairs), [channel] "r"(channel),
                       [step] "r"(d->call->output_dims->c)
                     : "q4", "q5", "q6", "q7", "lr", "memory", "cc");
    return (lane_sums){{s0, s1, s2, s3}};
}

/* The first of sixteen channels of a window: those in `lanes`. */
QUTE_INLINE lane_sums multiply_lanes(const depthwise *d, const block *with, int32_t channel, mve_pred16_t lanes)
{
    const int8_t *weight = d->call->filter + channel;
    lane_sums sums;
    for (int32_t k = 0; k < 4; k++) {
        sums.of[k] = vldrwq_s32(with->base[k]);
    }
    for (int32_t tap = 0; tap < d->tap_count; tap++) {
        const int8x16_t x = vldrbq_z_s8(d->taps[tap] + channel, lanes);
        const int8x16_t w = vldrbq_z_s8(weight, lanes);
        const int16x8_t even = vmullbq_int_s8(x, w);
        const int16x8_t odd = vmulltq_int_s8(x, w);
        sums.of[0] = vaddq_s32(sums.of[0], vmovlbq_s16(even));
        sums.of[1] = vaddq_s32(sums.of[1], vmovlbq_s16(odd));
        sums.of[2] = vaddq_s32(sums.of[2], vmovltq_s16(even));
        sums.of[3] = vaddq_s32(sums.of[3], vmovltq_s16(odd));
        weight += d->call->output_dims->c;
    }
    return sums;
}

/* The low halves of `even` and `odd`, saturated, side by side. */
QUTE_INLINE int16x8_t narrowed_s16(int32x4_t even, int32x4_t odd)
{
    return vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(even), even), odd);
}

/* The values of 16 channels, in their order, saturated. */
QUTE_INLINE int8x16_t narrowed(const lane_sums *values, int32_t offset)
{
    const int16x8_t even = vqaddq_n_s16(narrowed_s16(values->of[0], values->of[2]), (int16_t)offset);
    const int16x8_t odd = vqaddq_n_s16(narrowed_s16(values->of[1], values->of[3]), (int16_t)offset);
    return vqmovntq_s16(vqmovnbq_s16(vreinterpretq_s8_s16(even), even), odd);
}

/* All blocks of a pixel of at least 16 channels, if all shifts are to the right. After a right shift values have 30
 * bits or less: neither the offset nor narrowing to 16 bits before it can change what is clamped to 8. */
QUTE_NOINLINE void put_blocks(const depthwise *d, int32_t channels, int8_t *output)
{
    const cmsis_nn_dw_conv_params *params = d->call->params;
    const block *with = d->blocks;
    for (int32_t first = 0; first < channels; first += LANES) {
        const int32_t channel = first_channel(first, channels);
        lane_sums sums = multiply_whole(d, with, channel);
        int8x16_t bytes;
        for (int32_t k = 0; k < 4; k++) {
            sums.of[k] = qute_helium_requantize_right(
                sums.of[k], vldrwq_s32(with->multiplier[k]), vldrwq_s32(with->shift[k]));
        }
        bytes = vmaxq_s8(narrowed(&sums, params->output_offset), vdupq_n_s8((int8_t)params->activation.min));
        vstrbq_s8(output + channel, vminq_s8(bytes, vdupq_n_s8((int8_t)params->activation.max)));
        with++;
    }
}

/* The same of any number of channels with any shifts. */
QUTE_NOINLINE void put_lanes(const depthwise *d, int32_t channels, int8_t *output)
{
    const cmsis_nn_dw_conv_params *params = d->call->params;
    const block *with = d->blocks;
    const mve_pred16_t lanes = vctp8q((uint32_t)channels);
    for (int32_t first = 0; first < channels; first += LANES) {
        const int32_t channel = first_channel(first, channels);
        lane_sums sums = multiply_lanes(d, with, channel, lanes);
        for (int32_t k = 0; k < 4; k++) {
            const int32x4_t value = qute_helium_requantize(
                sums.of[k], vldrwq_s32(with->multiplier[k]), vldrwq_s32(with->shift[k]));
            sums.of[k] =
                qute_helium_output(value, params->output_offset, params->activation.min, params->activation.max);
        }
        vstrbq_p_s8(output + channel, narrowed(&sums, 0), lanes);
        with++;
    }
}

/* The table for output column `out_x`; `y` is the map's row at the first tap. */
QUTE_NOINLINE void find_taps(const depthwise *d, int32_t y, int32_t out_x)
{
    const qute_depthwise *call = d->call;
    const cmsis_nn_dims *input = call->input_dims;
    const cmsis_nn_tile dilation = call->params->dilation;
    const int32_t x = out_x * call->params->stride.w - call->params->padding.w;
    const int32_t step = dilation.w * input->c;
    const int8_t *row = call->input + (y * input->w + x) * input->c;
    const int8_t **tap = d->taps;
    for (int32_t ky = 0; ky < call->filter_dims->h; ky++) {
        /* As unsigned numbers, those below 0 are too large as well. */
        const uint32_t width = (uint32_t)(y + ky * dilation.h) < (uint32_t)input->h ? (uint32_t)input->w : 0;
        const int8_t *pixel = row;
        int32_t column = x;
        for (int32_t kx = 0; kx < call->filter_dims->w; kx++) {
            *tap++ = (uint32_t)column < width ? pixel : d->zero_points;
            pixel += step;
            column += dilation.w;
        }
        row += dilation.h * input->w * input->c;
    }
}

/* The table one pixel further, where all taps are inside the map. */
QUTE_INLINE void move_taps(const depthwise *d, int32_t step)
{
    const int8_t **tap = d->taps;
    __asm__ volatile("dlstp.32 lr, %[n]\n"
                     "1:\n\t"
                     "vldrw.32 q0, [%[tap]]\n\t"
                     "vadd.i32 q0, q0, %[step]\n\t"
                     "vstrw.32 q0, [%[tap]], #16\n\t"
                     "letp lr, 1b"
                     : [tap] "+r"(tap)
                     : [n] "r"(d->tap_count), [step] "r"(step)
                     : "q0", "lr", "memory", "cc");
}

static void compute_map(const depthwise *d, int shifts_right)
{
    const qute_depthwise *call = d->call;
    const cmsis_nn_dw_conv_params *params = call->params;
    const cmsis_nn_dims *input = call->input_dims;
    const cmsis_nn_dims *filter = call->filter_dims;
    const int32_t channels = input->c;
    const int32_t last_x = input->w - 1 - (filter->w - 1) * params->dilation.w;
    const int32_t last_y = input->h - 1 - (filter->h - 1) * params->dilation.h;
    int8_t *output = call->output;

    for (int32_t out_y = 0; out_y < call->output_dims->h; out_y++) {
        const int32_t y = out_y * params->stride.h - params->padding.h;
        const int is_row_inside = y >= 0 && y <= last_y;
        int32_t x = -params->padding.w;
        int was_inside = 0;
        for (int32_t out_x = 0; out_x < call->output_dims->w; out_x++) {
            const int is_inside = is_row_inside && x >= 0 && x <= last_x;
            if (is_inside && was_inside) {
                move_taps(d, params->stride.w * channels);
            } else {
                find_taps(d, y, out_x);
            }
            was_inside = is_inside;
            x += params->stride.w;
            if (shifts_right && channels >= LANES) {
                put_blocks(d, channels, output);
            } else {
                put_lanes(d, channels, output);
            }
            output += channels;
        }
    }
}

/* The parameters of a block. Sums begin at the bias and the input offset times the sum of the filter. */
static void fill_block(const qute_depthwise *call, int32_t tap_count, int32_t first, block *to)
{
    const int32_t channels = call->input_dims->c;
    const uint32x4_t rows = vidupq_n_u32(0, 4);
    for (int32_t lane = 0; lane < 4 && first + 4 * lane < channels; lane++) {
        const int32_t channel = first + 4 * lane;
        const mve_pred16_t lanes = vctp32q((uint32_t)(channels - channel));
        const int8_t *weight = call->filter + channel;
        int32x4_t sum = vdupq_n_s32(0);
        for (int32_t tap = 0; tap < tap_count; tap++) {
            sum = vaddq_s32(sum, vldrbq_z_s32(weight, lanes));
            weight += channels;
        }
        sum = vmulq_n_s32(sum, call->params->input_offset);
        if (call->bias) {
            sum = vaddq_s32(sum, vldrwq_z_s32(call->bias + channel, lanes));
        }
        vstrwq_scatter_shifted_offset_s32(&to->base[0][lane], rows, sum);
        vstrwq_scatter_shifted_offset_s32(
            &to->multiplier[0][lane], rows, vldrwq_z_s32(call->quant->multiplier + channel, lanes));
        vstrwq_scatter_shifted_offset_s32(
            &to->shift[0][lane], rows, vldrwq_z_s32(call->quant->shift + channel, lanes));
    }
}

/* The smallest of `count` weights, at least one. */
static int32_t smallest(const int8_t *weights, int32_t count)
{
    int32_t least = INT8_MAX;
    __asm__("dlstp.8 lr, %[n]\n"
            "1:\n\t"
            "vldrb.8 q0, [%[w]], #16\n\t"
            "vminv.s8 %[least], q0\n\t"
            "letp lr, 1b"
            : [w] "+r"(weights), [least] "+r"(least)
            : [n] "r"(count)
            : "q0", "lr", "memory", "cc");
    return (int8_t)least;
}

void qute_helium_depthwise_s8(const qute_depthwise *call, void *scratch)
{
    const int32_t channels = call->input_dims->c;
    const int32_t tap_count = call->filter_dims->h * call->filter_dims->w;
    block *const blocks = (block *)scratch;
    const int8_t **const taps = (const int8_t **)(blocks + (channels + LANES - 1) / LANES);
    int8_t *const zero_points = (int8_t *)(taps + tap_count);
    const int is_small = smallest(call->filter, tap_count * channels) > INT8_MIN;
    const depthwise d = {call, blocks, taps, zero_points, tap_count, is_small ? tap_count / 2 : 0};

    for (int32_t first = 0; first < channels; first += LANES) {
        fill_block(call, tap_count, first_channel(first, channels), blocks + first / LANES);
    }
    (void)qute_helium_fill_s8(zero_points, -call->params->input_offset, channels);
    compute_map(&d, qute_helium_shifts_right(call->quant->shift, channels));
}

#endif
