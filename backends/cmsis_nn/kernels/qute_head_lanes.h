// SPDX-License-Identifier: Apache-2.0
/* Channels that are worked on at a time, for a file that has defined LANES: 1, or 4 of one word.
 *
 * Channels of a block follow each other, and the last block of a map overlaps the one before it. */
#ifndef QUTE_HEAD_LANES_H
#define QUTE_HEAD_LANES_H

#include "qute_intrinsics.h"

/* The first channel of the block that is to begin at `next`. */
QUTE_INLINE int32_t qute_block(int32_t next, int32_t channels)
{
    return next + LANES <= channels ? next : channels - LANES;
}

/* totals[lane] += weights[lane] * values[lane] */
QUTE_INLINE void qute_add_products(const int8_t *weights, const int32_t *values, int32_t *totals)
{
#if LANES == 4
    const uint32_t word = qute_load_s8x4(weights);
    totals[0] += (int8_t)word * values[0];
    totals[1] += (int8_t)(word >> 8) * values[1];
    totals[2] += (int8_t)(word >> 16) * values[2];
    totals[3] += (int8_t)(word >> 24) * values[3];
#else
    *totals += *weights * *values;
#endif
}

#endif
