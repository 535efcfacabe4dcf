// SPDX-License-Identifier: Apache-2.0
/* Which taps of a sliding window lie inside the map.
 *
 * What kernels of windows (depthwise convolutions, pools) keep to, so that an output may overlap an input:
 * output rows are written in order, and once a byte of output row r is written, the kernel reads only input rows
 * that row r or a later one needs. Within a row it may go through the map in any order, several times. Elementwise
 * kernels and lookups read element i before they write it, in order, and never again.
 */
#ifndef QUTE_WINDOW_H
#define QUTE_WINDOW_H

#include "qute_intrinsics.h"

/* Taps begin <= t < end. */
typedef struct {
    int32_t begin;
    int32_t end;
} qute_taps;

/* The taps t of `kernel` for which 0 <= base + t * dilation < size; begin == end when there is none. */
QUTE_INLINE qute_taps qute_valid_taps(int32_t base, int32_t kernel, int32_t dilation, int32_t size)
{
    qute_taps taps;
    int32_t begin = base < 0 ? -base : 0;
    int32_t end = size > base ? size - base : 0;
    if (dilation > 1) {
        begin = (begin + dilation - 1) / dilation;
        end = (end + dilation - 1) / dilation;
    }
    taps.end = end < kernel ? end : kernel;
    taps.begin = begin < taps.end ? begin : taps.end;
    return taps;
}

#endif
