#include "engine/bell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int dco_bell_init(struct dco_bell *bell)
{
    atomic_init(&bell->rung, false);
    atomic_init(&bell->handed, false);
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd < 0 ? -errno : 0;
}

void dco_bell_destroy(struct dco_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

int dco_bell_hand_out(struct dco_bell *bell)
{
    atomic_store(&bell->handed, true);
    return bell->fd;
}

void dco_bell_retire(struct dco_bell *bell)
{
    if (atomic_load(&bell->handed))
        dco_bell_ring(bell);
    else
        dco_bell_destroy(bell);
}

void dco_bell_ring(struct dco_bell *bell)
{
    uint64_t one = 1;

    /* A full counter (EAGAIN) is readable as well. */
    if (!atomic_exchange(&bell->rung, true) && write(bell->fd, &one, sizeof one) < 0)
        return;
}

/* In this order: somebody who rings in between finds it rung, and has put before the exchange,
 * which the caller's second look then sees. The other way round his write could be read away.
 * Reads even if it was not rung: a write may come after what it was for was taken, and would leave
 * the descriptor readable for ever. */
void dco_bell_clear(struct dco_bell *bell)
{
    uint64_t count;

    if (read(bell->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    atomic_exchange(&bell->rung, false);
}
