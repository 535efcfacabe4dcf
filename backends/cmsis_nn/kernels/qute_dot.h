// SPDX-License-Identifier: Apache-2.0
/* One input vector times a few rows of weights: fully connected layers, and pixels of 1x1 kernels on their own. */
#ifndef QUTE_DOT_H
#define QUTE_DOT_H

#include "qute_intrinsics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows at a time that keep the registers busy. */
#define QUTE_DOT_ROWS 3

/* The first row of a block that begins at `row` of `rows`: where two are left, a third is computed again, which costs
 * less than two by themselves. */
QUTE_INLINE int32_t qute_first_row(int32_t row, int32_t rows)
{
    return rows >= QUTE_DOT_ROWS && rows - row == QUTE_DOT_ROWS - 1 ? row - 1 : row;
}

/* Adds to sums[r] the dot product of (x + offset) with row r of the weights, for 1 <= rows <= QUTE_DOT_ROWS.
 * Fastest with an offset of 0, everything aligned to 4, and depth a multiple of 4. */
void qute_dot_s8(
    const int8_t *x, int32_t offset, const int8_t *weights, int32_t depth, int32_t rows, int32_t *sums);

#ifdef __cplusplus
}
#endif

#endif
