// SPDX-License-Identifier: Apache-2.0
// The network behind names that do not depend on it. Unicorn calls these functions one by one from the
// host; under QEMU, sim_main.c calls them.
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include <stdint.h>

#include "sim_config.h"

extern sim_net_context sim_context;

// Start over with the given arena. Returns the network's status.
int32_t sim_init(uint8_t *arena);
// Let the network call sim_on_layer_hook after each layer.
void sim_watch_layers(void);
// One inference. Returns the network's status.
int32_t sim_invoke(void);
#ifdef SIM_INPUT_ROWS
// Writes nothing: the host sees that it is called, and writes the row. sim_init makes it the network's callback.
int32_t sim_read_row_hook(void *user, int32_t row, int8_t *bytes);
#else
int8_t *sim_input(int32_t index);
#endif
const int8_t *sim_output(int32_t index);
int32_t sim_check_scratch(void);
// Does nothing: the host sees that it is called, and the layer that has run.
void sim_on_layer_hook(void *user, int32_t layer);
// Where functions that the host calls return to.
void sim_idle(void);

#endif
