#include "codec/pktid.h"

#include <string.h>

#define WINDOW DCO_REPLAY_WINDOW

void dco_pktid_counter_init(struct dco_pktid_counter *counter, uint64_t first, uint64_t last)
{
    counter->next = first ? first : 1;
    counter->last = last;
}

void dco_pktid_window_init(struct dco_pktid_window *window)
{
    memset(window, 0, sizeof *window);
}

/* The bitmap is a ring indexed by id modulo its size, so that moving forward only clears. */
static bool test_and_set(struct dco_pktid_window *window, uint64_t id)
{
    uint64_t *word = &window->seen[id % WINDOW / 64];
    uint64_t bit = UINT64_C(1) << id % 64;
    bool seen = *word & bit;

    *word |= bit;
    return seen;
}

static void clear_skipped(struct dco_pktid_window *window, uint64_t first, uint64_t count)
{
    for (; count && first % 64; first++, count--)
        window->seen[first % WINDOW / 64] &= ~(UINT64_C(1) << first % 64);
    for (; count >= 64; first += 64, count -= 64)
        window->seen[first % WINDOW / 64] = 0;
    for (; count; first++, count--)
        window->seen[first % WINDOW / 64] &= ~(UINT64_C(1) << first % 64);
}

static void advance(struct dco_pktid_window *window, uint64_t id)
{
    uint64_t jump = id - window->newest;

    if (jump < WINDOW) {
        clear_skipped(window, window->newest + 1, jump);
        window->extent += (uint32_t)jump;
        if (window->extent > WINDOW)
            window->extent = WINDOW;
    } else {
        memset(window->seen, 0, sizeof window->seen);
        window->extent = WINDOW;
    }
    window->newest = id;
    test_and_set(window, id);
}

bool dco_pktid_accept(struct dco_pktid_window *window, uint64_t id, uint64_t now_s)
{
    if (id == 0)
        return false;
    if (now_s >= window->expiry_s)
        window->floor = window->newest;

    if (id > window->newest) {
        advance(window, id);
    } else {
        if (window->newest - id >= window->extent || id <= window->floor)
            return false;
        if (test_and_set(window, id))
            return false;
    }
    window->expiry_s = now_s + DCO_REPLAY_SILENCE_S;
    return true;
}
