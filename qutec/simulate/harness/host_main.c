// SPDX-License-Identifier: Apache-2.0
// The network as a filter: reads samples (all inputs, one after the other) from standard input until its
// end, writes the outputs of each to standard output. Exits with 1 + status when the network reports an
// error, with 64 when the arena cannot be had, 65 on a truncated sample, and 66 when the network does not ask for
// every row of a streamed input once and in order.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

#include "sim_config.h"

enum { EXIT_NO_MEMORY = 64, EXIT_TRUNCATED = 65, EXIT_ROWS = 66, ALIGNMENT = 16 };

static const uint32_t input_bytes[] = SIM_INPUT_BYTES;
static const uint32_t output_bytes[] = SIM_OUTPUT_BYTES;

#ifdef SIM_INPUT_ROWS
// Malloced, so that AddressSanitizer sees a row that is asked for beyond the last.
static int8_t *sample;
static int32_t rows_asked;

static int32_t read_row(void *user, int32_t row, int8_t *bytes)
{
    (void)user;
    if (row != rows_asked || row >= SIM_INPUT_ROWS) {
        exit(EXIT_ROWS);
    }
    ++rows_asked;
    memcpy(bytes, sample + (size_t)row * SIM_ROW_BYTES, SIM_ROW_BYTES);
    return 0;
}

static int8_t *input_place(const sim_net_context *context, int32_t index)
{
    (void)context;
    (void)index;
    rows_asked = 0;
    if (sample == NULL) {
        sample = malloc(input_bytes[0]);
    }
    if (sample == NULL) {
        exit(EXIT_NO_MEMORY);
    }
    return sample;
}
#else
static int8_t *input_place(const sim_net_context *context, int32_t index)
{
    return sim_net_input(context, index);
}
#endif

// Returns 1 for a whole sample, 0 at the end of the input, -1 in the middle of a sample.
static int read_inputs(const sim_net_context *context)
{
    for (int32_t k = 0; k < SIM_INPUT_COUNT; ++k) {
        const size_t count = fread(input_place(context, k), 1, input_bytes[k], stdin);
        if (count != input_bytes[k]) {
            return k == 0 && count == 0 ? 0 : -1;
        }
    }
    return 1;
}

int main(void)
{
#ifdef _WIN32
    (void)_setmode(0, _O_BINARY);
    (void)_setmode(1, _O_BINARY);
#endif
    // Usually malloc is aligned well enough, and AddressSanitizer then sees an overrun of one byte.
    uint8_t *memory = malloc(SIM_ARENA_BYTES);
    uint8_t *arena = memory;
    if ((uintptr_t)memory % ALIGNMENT != 0) {
        free(memory);
        memory = malloc(SIM_ARENA_BYTES + ALIGNMENT);
        arena = memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT) % ALIGNMENT;
    }
    if (memory == NULL) {
        return EXIT_NO_MEMORY;
    }
    sim_net_context context;
    int status = (int)sim_net_check_scratch();
    if (status == (int)SIM_NET_OK) {
        status = (int)sim_net_init(&context, arena, SIM_ARENA_BYTES);
    }
#ifdef SIM_INPUT_ROWS
    context.read_row = read_row;
#endif
    int more = 1;
    while (status == (int)SIM_NET_OK && (more = read_inputs(&context)) == 1) {
        status = (int)sim_net_invoke(&context);
#ifdef SIM_INPUT_ROWS
        if (status == (int)SIM_NET_OK && rows_asked != SIM_INPUT_ROWS) {
            return EXIT_ROWS;
        }
#endif
        for (int32_t k = 0; status == (int)SIM_NET_OK && k < SIM_OUTPUT_COUNT; ++k) {
            (void)fwrite(sim_net_output(&context, k), 1, output_bytes[k], stdout);
        }
    }
    free(memory);
#ifdef SIM_INPUT_ROWS
    free(sample);
#endif
    if (status != (int)SIM_NET_OK) {
        return 1 + status;
    }
    return more < 0 ? EXIT_TRUNCATED : 0;
}
