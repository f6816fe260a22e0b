/* Keepalive, expiry, and floats that wait to be told. Run by the transmit thread, at whole seconds
 * and only when something is due, so that an idle device sleeps. */
#ifndef DCO_ENGINE_TIMER_H
#define DCO_ENGINE_TIMER_H

#include "engine/transmit.h"

/* Does what is due now and returns when to come again: ns of CLOCK_BOOTTIME, 0 for never. */
uint64_t dco_timer_run(struct dco_transmit *transmit);

#endif
