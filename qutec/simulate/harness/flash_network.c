// SPDX-License-Identifier: Apache-2.0
// A minimal application around the network, to measure the flash that the network takes: its arena is
// static, and every port is touched through volatile so that nothing of the network is dropped.
#include <stdint.h>

#include "sim_config.h"

static uint8_t arena[SIM_ARENA_BYTES] __attribute__((aligned(16)));
static const uint32_t output_bytes[] = SIM_OUTPUT_BYTES;

#ifdef SIM_INPUT_ROWS
static int32_t read_row(void *user, int32_t row, int8_t *bytes)
{
    (void)user;
    (void)row;
    for (uint32_t i = 0; i < SIM_ROW_BYTES; ++i) {
        bytes[i] = *(const volatile int8_t *)SIM_IO_BASE;
    }
    return 0;
}
#else
static const uint32_t input_bytes[] = SIM_INPUT_BYTES;
#endif

int main(void);
int main(void)
{
    volatile int8_t *port = (volatile int8_t *)SIM_IO_BASE;
    sim_net_context context;
    if (sim_net_init(&context, arena, sizeof arena) != SIM_NET_OK) {
        return 1;
    }
#ifdef SIM_INPUT_ROWS
    context.read_row = read_row;
#else
    for (int32_t k = 0; k < SIM_INPUT_COUNT; ++k) {
        int8_t *input = sim_net_input(&context, k);
        for (uint32_t i = 0; i < input_bytes[k]; ++i) {
            input[i] = *port;
        }
    }
#endif
    if (sim_net_invoke(&context) != SIM_NET_OK) {
        return 1;
    }
    for (int32_t k = 0; k < SIM_OUTPUT_COUNT; ++k) {
        const int8_t *output = sim_net_output(&context, k);
        for (uint32_t i = 0; i < output_bytes[k]; ++i) {
            *port = output[i];
        }
    }
    return 0;
}
