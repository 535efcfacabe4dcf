// SPDX-License-Identifier: Apache-2.0
// The network as a filter: reads samples (all inputs, one after the other) from standard input until its
// end, writes the outputs of each to standard output. Exits with 1 + status when the network reports an
// error, with 64 when the arena cannot be had and 65 on a truncated sample.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

#include "sim_config.h"

enum { EXIT_NO_MEMORY = 64, EXIT_TRUNCATED = 65, ALIGNMENT = 16 };

static const uint32_t input_bytes[] = SIM_INPUT_BYTES;
static const uint32_t output_bytes[] = SIM_OUTPUT_BYTES;

// Returns 1 for a whole sample, 0 at the end of the input, -1 in the middle of a sample.
static int read_inputs(const sim_net_context *context)
{
    for (int32_t k = 0; k < SIM_INPUT_COUNT; ++k) {
        const size_t count = fread(sim_net_input(context, k), 1, input_bytes[k], stdin);
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
    int more = 1;
    while (status == (int)SIM_NET_OK && (more = read_inputs(&context)) == 1) {
        status = (int)sim_net_invoke(&context);
        for (int32_t k = 0; status == (int)SIM_NET_OK && k < SIM_OUTPUT_COUNT; ++k) {
            (void)fwrite(sim_net_output(&context, k), 1, output_bytes[k], stdout);
        }
    }
    free(memory);
    if (status != (int)SIM_NET_OK) {
        return 1 + status;
    }
    return more < 0 ? EXIT_TRUNCATED : 0;
}
