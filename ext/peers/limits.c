#include "peers/limits.h"

#define SECOND UINT64_C(1000000000)

enum {
    TIMES = 1u << DCO_LIMIT_INACTIVE | 1u << DCO_LIMIT_SESSION,
    OF_A_KEY = 1u << DCO_LIMIT_RENEGOTIATE_BYTES | 1u << DCO_LIMIT_RENEGOTIATE_PACKETS,
};

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint32_t armed(const struct dco_limit_meter *meter)
{
    return atomic_load_explicit(&meter->armed, memory_order_acquire);
}

static uint64_t counted(unsigned limit, struct dco_crossed crossed)
{
    bool packets = limit == DCO_LIMIT_QUOTA_PACKETS || limit == DCO_LIMIT_RENEGOTIATE_PACKETS;

    return packets ? crossed.packets : crossed.bytes;
}

/* At least one byte is activity. */
static void await_activity(struct dco_limit_meter *meter, uint64_t bytes)
{
    uint64_t least = get(&meter->inactive_bytes);

    put(&meter->active_at, bytes + (least ? least : 1));
}

/* Its value is set. Armed last: whoever sees that sees when it is due. */
static void arm(struct dco_limit_meter *meter, unsigned limit, uint64_t now_ns,
                struct dco_crossed crossed)
{
    uint64_t value = get(&meter->value[limit]);

    atomic_fetch_and(&meter->armed, ~(1u << limit));
    if (!value)
        return;
    put(&meter->due[limit],
        TIMES >> limit & 1 ? now_ns + value * SECOND : counted(limit, crossed) + value);
    atomic_fetch_or(&meter->armed, 1u << limit);
}

void dco_limits_set(struct dco_limit_meter *meter, const struct dco_limits *limits, uint64_t now_ns,
                    struct dco_crossed crossed)
{
    if (limits->given >> DCO_LIMIT_INACTIVE & 1) {
        put(&meter->inactive_bytes, limits->inactive_bytes);
        await_activity(meter, crossed.bytes);
    }
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        if (limits->given >> limit & 1) {
            put(&meter->value[limit], limits->value[limit]);
            arm(meter, limit, now_ns, crossed);
        }
}

void dco_limits_renew(struct dco_limit_meter *meter, struct dco_crossed crossed)
{
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        if (OF_A_KEY >> limit & 1)
            arm(meter, limit, 0, crossed);
}

/* Of those that are reached, what nobody has told yet. */
static uint32_t disarm(struct dco_limit_meter *meter, uint32_t reached)
{
    return reached ? atomic_fetch_and(&meter->armed, ~reached) & reached : 0;
}

uint32_t dco_limits_count(struct dco_limit_meter *meter, uint64_t now_ns,
                          struct dco_crossed crossed)
{
    uint32_t left = armed(meter), reached = 0;

    if (left >> DCO_LIMIT_INACTIVE & 1 && crossed.bytes >= get(&meter->active_at)) {
        await_activity(meter, crossed.bytes);
        put(&meter->due[DCO_LIMIT_INACTIVE],
            now_ns + get(&meter->value[DCO_LIMIT_INACTIVE]) * SECOND);
    }
    for (left &= ~(uint32_t)TIMES; left; left &= left - 1) {
        unsigned limit = (unsigned)__builtin_ctz(left);
        if (counted(limit, crossed) >= get(&meter->due[limit]))
            reached |= 1u << limit;
    }
    return disarm(meter, reached);
}

uint32_t dco_limits_expire(struct dco_limit_meter *meter, uint64_t now_ns)
{
    uint32_t reached = 0;

    for (uint32_t left = armed(meter) & TIMES; left; left &= left - 1) {
        unsigned limit = (unsigned)__builtin_ctz(left);
        if (now_ns >= get(&meter->due[limit]))
            reached |= 1u << limit;
    }
    return disarm(meter, reached);
}

uint64_t dco_limits_next(const struct dco_limit_meter *meter)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t left = armed(meter) & TIMES; left; left &= left - 1) {
        uint64_t due = get(&meter->due[__builtin_ctz(left)]);
        next = due < next ? due : next;
    }
    return next;
}

void dco_limits_describe(const struct dco_limit_meter *meter, struct dco_limits *limits)
{
    limits->given = (1u << DCO_LIMITS) - 1;
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        limits->value[limit] = get(&meter->value[limit]);
    limits->inactive_bytes = get(&meter->inactive_bytes);
}

void dco_limits_save(const struct dco_limit_meter *meter, struct dco_limits_state *state)
{
    state->armed = armed(meter);
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        state->due[limit] = get(&meter->due[limit]);
    state->active_at = get(&meter->active_at);
}

void dco_limits_load(struct dco_limit_meter *meter, const struct dco_limits_state *state)
{
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        put(&meter->due[limit], state->due[limit]);
    put(&meter->active_at, state->active_at);
    atomic_store(&meter->armed, state->armed & ((1u << DCO_LIMITS) - 1));
}
