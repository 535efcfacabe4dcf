// SPDX-License-Identifier: Apache-2.0
#include "qute_helium.h"
#include "qute_helium_heads.h"

#if QUTE_MVE

/* As qute_head_sums_map.h does it, with eight channels of 16 bits in place of four, the last ones by a predicate. */
#define LANES 8

/* Heads that share one reading of the map. */
#define MAX_HEADS 4
/* Columns of taps that are worked on at a time, and the pixels of each; the sums of pixels must fit 16 bits. */
#define COLUMNS 3
typedef struct {
    int16x8_t of[COLUMNS];
} column_sums;

/* Sums of channels {0, 2, 4, 6} and {1, 3, 5, 7}. */
typedef struct {
    int32x4_t even;
    int32x4_t odd;
} head_sums;

/* `count` > 0 pixels, `step` bytes apart, each plus the offset. */
QUTE_INLINE int16x8_t
sum_of_pixels(const int8_t *pixel, int32_t count, int32_t step, int32_t offset, mve_pred16_t lanes)
{
    int16x8_t sums = vdupq_n_s16((int16_t)(count * offset));
    __asm__("vmsr p0, %[lanes]\n\t"
            "dls lr, %[n]\n"
            "1:\n\t"
            "vpst\n\t"
            "vldrbt.s16 q0, [%[pixel]]\n\t"
            "vadd.i16 %q[sums], %q[sums], q0\n\t"
            "add %[pixel], %[pixel], %[step]\n\t"
            "le lr, 1b"
            : [pixel] "+l"(pixel), [sums] "+w"(sums)
            : [lanes] "r"((uint32_t)lanes), [n] "r"(count), [step] "r"(step)
            : "q0", "lr", "memory", "cc");
    return sums;
}

/* Adds the pixels of a line that `count` columns of taps meet: at a stride of 1, neighbours meet the same but for one at
 * either end. */
QUTE_NOINLINE void add_line(const qute_head_sum_axis *axis,
                          const qute_head_lines *column,
                          int32_t count,
                          const int8_t *line,
                          int32_t offset,
                          mve_pred16_t lanes,
                          column_sums *sums)
{
    const int32_t step = axis->input_step;
    int16x8_t pixels = vdupq_n_s16(0);
    QUTE_ROLLED
    for (int32_t j = 0; j < count; j++, column++) {
        if (j > 0 && axis->stride == 1) {
            const int32_t old_end = column[-1].first + column[-1].count;
            if (column->first != column[-1].first) {
                const int16x8_t pixel = vldrbq_z_s16(line + column[-1].first * step, lanes);
                pixels = vsubq_s16(pixels, vaddq_n_s16(pixel, (int16_t)offset));
            }
            if (column->first + column->count != old_end) {
                const int16x8_t pixel = vldrbq_z_s16(line + old_end * step, lanes);
                pixels = vaddq_s16(pixels, vaddq_n_s16(pixel, (int16_t)offset));
            }
        } else if (column->count > 0) {
            pixels =
                sum_of_pixels(line + column->first * step, column->count, axis->stride * step, offset, lanes);
        } else {
            pixels = vdupq_n_s16(0);
        }
        sums->of[j] = vaddq_s16(sums->of[j], pixels);
    }
}

/* What `count` columns of taps, the first at `weights`, add to the totals of each head. */
QUTE_NOINLINE void add_columns(const qute_head_sums_params *params,
                               const int8_t *input,
                               const qute_head_lines *columns,
                               int32_t count,
                               const int8_t *weights,
                               int32_t heads,
                               mve_pred16_t lanes,
                               head_sums *totals)
{
    const qute_head_sum_axis *outer = &params->outer;
    const int32_t kernel = outer->taps * params->inner.taps * params->features.channels;
    const int32_t tap_step = outer->stride * outer->weight_step;
    const qute_head_line_class *const end = params->classes + params->class_count;
    for (const qute_head_line_class *met = params->classes; met != end; met++) {
        const int8_t *line = input + met->lines.first * outer->input_step;
        const int8_t *head = weights + met->tap * outer->weight_step;
        column_sums sums;
        for (int32_t j = 0; j < COLUMNS; j++) {
            sums.of[j] = vdupq_n_s16(0);
        }
        QUTE_ROLLED
        for (int32_t i = met->lines.count; i > 0; i--) {
            add_line(&params->inner, columns, count, line, params->features.input_offset, lanes, &sums);
            line += outer->stride * outer->input_step;
        }
        for (int32_t k = 0; k < heads; k++) {
            head_sums products = totals[k];
            QUTE_ROLLED
            for (int32_t j = 0; j < count; j++) {
                const int8_t *tap = head + j * params->inner.weight_step;
                int16x8_t weight = vldrbq_z_s16(tap, lanes);
                QUTE_ROLLED
                for (int32_t left = met->taps; --left > 0;) {
                    tap += tap_step;
                    weight = vaddq_s16(weight, vldrbq_z_s16(tap, lanes));
                }
                products.even = vaddq_s32(products.even, vmullbq_int_s16(sums.of[j], weight));
                products.odd = vaddq_s32(products.odd, vmulltq_int_s16(sums.of[j], weight));
            }
            totals[k] = products;
            head += kernel;
        }
    }
}

/* Sums as features: times multiplier / 2^16 and cut, divided by 2^shift and rounded half up, in 16 bits. */
QUTE_COLD void store_features(
    const qute_head_features *features, const head_sums *totals, int32_t index, int32_t count, int16_t *output)
{
    int32_t sums[LANES];
    const int32x4x2_t in_order = {{totals->even, totals->odd}};
    vst2q_s32(sums, in_order);
    for (int32_t i = 0; i < count; i += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(count - i));
        const int32x4_t multiplier =
            vreinterpretq_s32_u32(vshlq_n_u32(vldrhq_z_u32(features->multiplier + index + i, lanes), 15));
        const int32x4_t scaled = vqdmulhq_s32(vld1q_s32(sums + i), multiplier);
        const int32x4_t rounded = vrshlq_n_s32(scaled, -features->shift);
        const int32x4_t low = vmaxq_s32(rounded, vdupq_n_s32(INT16_MIN));
        vstrhq_p_s32(output + index + i, vminq_s32(low, vdupq_n_s32(INT16_MAX)), lanes);
    }
}

void qute_helium_head_sums_s8(const qute_head_sums_params *params, const int8_t *input, int16_t *output)
{
    const qute_head_features *features = &params->features;
    const int32_t channels = features->channels;
    const int8_t *weights = features->weights;
    for (int32_t head = 0; head < features->heads; head += MAX_HEADS) {
        const int32_t heads = features->heads - head < MAX_HEADS ? features->heads - head : MAX_HEADS;
        for (int32_t channel = 0; channel < channels; channel += LANES) {
            const mve_pred16_t lanes = vctp16q((uint32_t)(channels - channel));
            head_sums totals[MAX_HEADS];
            for (int32_t k = 0; k < heads; k++) {
                totals[k].even = vdupq_n_s32(0);
                totals[k].odd = vdupq_n_s32(0);
            }
            for (int32_t j = 0; j < params->inner.taps; j += COLUMNS) {
                const int32_t left = params->inner.taps - j;
                add_columns(params,
                            input + channel,
                            params->columns + j,
                            left < COLUMNS ? left : COLUMNS,
                            weights + j * params->inner.weight_step + channel,
                            heads,
                            lanes,
                            totals);
            }
            for (int32_t k = 0; k < heads; k++) {
                const int32_t left = channels - channel;
                store_features(features,
                               totals + k,
                               (head + k) * channels + channel,
                               left < LANES ? left : LANES,
                               output);
            }
        }
        weights += heads * params->outer.taps * params->inner.taps * channels;
    }
}

#endif
