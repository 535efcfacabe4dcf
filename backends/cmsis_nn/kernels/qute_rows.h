// SPDX-License-Identifier: Apache-2.0
// The rows of a map that exist while its region runs row by row. Rows lie one behind the other, the oldest
// first; when the place is full, the oldest goes and the others move up by one, so that a window of rows is
// always contiguous and plain kernels can read it.
#ifndef QUTE_ROWS_H
#define QUTE_ROWS_H

#include <stdint.h>

#include "qute_kernels.h"

/* A function that is not inlined: what a region holds of its rows would lie on the stack of every layer of the network. */
#if defined(__GNUC__) || defined(__clang__) || defined(__ARMCC_VERSION)
#define QUTE_OWN_FRAME __attribute__((noinline))
#else
#define QUTE_OWN_FRAME
#endif

typedef struct
{
    int8_t *memory;
    int32_t row_bytes;
    int32_t capacity; /* rows that fit */
    int32_t first;    /* number of the row at `memory` */
    int32_t done;     /* rows made so far: those from `first` to `done` - 1 are there */
} qute_rows;

/* The rows that a kernel reads for one row of its output. */
typedef struct
{
    const int8_t *rows; /* the first row inside the map */
    int32_t count;      /* rows inside the map */
    int32_t above;      /* rows of padding above it */
} qute_window;

/* A map of which `done` rows have been made, with room for `capacity`. */
static inline qute_rows qute_rows_resumed(int8_t *memory, int32_t row_bytes, int32_t capacity, int32_t done)
{
    const qute_rows map = {memory, row_bytes, capacity, done > capacity ? done - capacity : 0, done};
    return map;
}

/* Place of the next row. It is made, and `done` counted up, before the function is called again. */
static inline int8_t *qute_rows_next(qute_rows *map)
{
    if (map->done - map->first == map->capacity) {
        if (map->capacity > 1) {
            qute_move_up_s8(map->memory + map->row_bytes, map->memory, (map->capacity - 1) * map->row_bytes);
        }
        ++map->first;
    }
    return map->memory + (map->done - map->first) * map->row_bytes;
}

/* Whether the rows for output row `row` are there: `extent` rows, the first `row` * stride - padding, of a map
 * of `height`. Fills `window` where they are. */
static inline int qute_rows_window(const qute_rows *map,
                                   int32_t height,
                                   int32_t row,
                                   int32_t stride,
                                   int32_t padding,
                                   int32_t extent,
                                   qute_window *window)
{
    const int32_t top = row * stride - padding;
    const int32_t begin = top > 0 ? top : 0;
    const int32_t end = top + extent < height ? top + extent : height;
    if (map->done < end) {
        return 0;
    }
    window->rows = map->memory + (begin - map->first) * map->row_bytes;
    window->count = end - begin;
    window->above = begin - top;
    return 1;
}

#endif
