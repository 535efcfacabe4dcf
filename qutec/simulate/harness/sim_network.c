// SPDX-License-Identifier: Apache-2.0
#include "sim_network.h"

// Kept by the linker script although no C code may call them.
#define HOST_CALLS __attribute__((used, noinline, section(".sim_text")))

sim_net_context sim_context;

HOST_CALLS int32_t sim_init(uint8_t *arena)
{
    const int32_t status = (int32_t)sim_net_init(&sim_context, arena, SIM_ARENA_BYTES);
#ifdef SIM_INPUT_ROWS
    sim_context.read_row = sim_read_row_hook;
#endif
    return status;
}

HOST_CALLS void sim_watch_layers(void)
{
    sim_context.on_layer = sim_on_layer_hook;
}

HOST_CALLS int32_t sim_invoke(void)
{
    return (int32_t)sim_net_invoke(&sim_context);
}

#ifdef SIM_INPUT_ROWS
HOST_CALLS int32_t sim_read_row_hook(void *user, int32_t row, int8_t *bytes)
{
    (void)user;
    (void)row;
    (void)bytes;
    return 0;
}
#else
HOST_CALLS int8_t *sim_input(int32_t index)
{
    return sim_net_input(&sim_context, index);
}
#endif

HOST_CALLS const int8_t *sim_output(int32_t index)
{
    return sim_net_output(&sim_context, index);
}

HOST_CALLS int32_t sim_check_scratch(void)
{
    return (int32_t)sim_net_check_scratch();
}

HOST_CALLS void sim_on_layer_hook(void *user, int32_t layer)
{
    (void)user;
    (void)layer;
}

HOST_CALLS void sim_idle(void)
{
    for (;;) {
        __asm volatile("nop");
    }
}
