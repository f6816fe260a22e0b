#include "peers/limits.h"
#include "tests/check.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)
#define BIT(limit) (1u << DCO_LIMIT_##limit)

static struct dco_limit_meter meter;

static struct dco_crossed crossed(uint64_t bytes, uint64_t packets)
{
    return (struct dco_crossed){bytes, packets};
}

static void set(enum dco_limit limit, uint64_t value, uint64_t now_ns, struct dco_crossed from)
{
    struct dco_limits limits = {.given = 1u << limit};

    limits.value[limit] = value;
    dco_limits_set(&meter, &limits, now_ns, from);
}

static void nothing_is_set(void)
{
    meter = (struct dco_limit_meter){0};
    CHECK(dco_limits_count(&meter, START, crossed(UINT64_MAX, UINT64_MAX)) == 0);
    CHECK(dco_limits_expire(&meter, UINT64_MAX) == 0);
    CHECK(dco_limits_next(&meter) == UINT64_MAX);
}

static void a_session_ends_once(void)
{
    meter = (struct dco_limit_meter){0};
    set(DCO_LIMIT_SESSION, 10, START, crossed(0, 0));
    CHECK(dco_limits_next(&meter) == START + 10 * SECOND);
    CHECK(dco_limits_count(&meter, START + 9 * SECOND, crossed(1000000, 1000)) == 0);
    CHECK(dco_limits_expire(&meter, START + 10 * SECOND - 1) == 0);
    CHECK(dco_limits_expire(&meter, START + 10 * SECOND) == BIT(SESSION));
    CHECK(dco_limits_expire(&meter, START + 20 * SECOND) == 0);
    CHECK(dco_limits_next(&meter) == UINT64_MAX);
    set(DCO_LIMIT_SESSION, 5, START + 20 * SECOND, crossed(0, 0));
    CHECK(dco_limits_next(&meter) == START + 25 * SECOND);
    set(DCO_LIMIT_SESSION, 0, START + 20 * SECOND, crossed(0, 0));
    CHECK(dco_limits_expire(&meter, UINT64_MAX) == 0);
}

/* `inactive 10 300`: fewer than 300 bytes do not put it off, however often they come. */
static void activity_is_so_many_bytes(void)
{
    struct dco_limits limits = {.given = BIT(INACTIVE), .inactive_bytes = 300};

    meter = (struct dco_limit_meter){0};
    limits.value[DCO_LIMIT_INACTIVE] = 10;
    dco_limits_set(&meter, &limits, START, crossed(5000, 50));
    CHECK(dco_limits_count(&meter, START + SECOND, crossed(5299, 51)) == 0);
    CHECK(dco_limits_next(&meter) == START + 10 * SECOND);
    CHECK(dco_limits_count(&meter, START + 4 * SECOND, crossed(5300, 52)) == 0);
    CHECK(dco_limits_next(&meter) == START + 14 * SECOND);
    CHECK(dco_limits_count(&meter, START + 9 * SECOND, crossed(5599, 53)) == 0);
    CHECK(dco_limits_expire(&meter, START + 14 * SECOND - 1) == 0);
    CHECK(dco_limits_expire(&meter, START + 14 * SECOND) == BIT(INACTIVE));
    CHECK(dco_limits_count(&meter, START + 15 * SECOND, crossed(9999, 60)) == 0);
    CHECK(dco_limits_next(&meter) == UINT64_MAX);
}

static void any_byte_is_activity(void)
{
    meter = (struct dco_limit_meter){0};
    set(DCO_LIMIT_INACTIVE, 10, START, crossed(7, 1));
    CHECK(dco_limits_count(&meter, START + SECOND, crossed(7, 1)) == 0);
    CHECK(dco_limits_next(&meter) == START + 10 * SECOND);
    CHECK(dco_limits_count(&meter, START + SECOND, crossed(8, 2)) == 0);
    CHECK(dco_limits_next(&meter) == START + 11 * SECOND);
}

/* From where they were set, in one step or beyond; and set again, from there. */
static void quotas(void)
{
    meter = (struct dco_limit_meter){0};
    set(DCO_LIMIT_QUOTA_BYTES, 1000, START, crossed(500, 5));
    set(DCO_LIMIT_QUOTA_PACKETS, 10, START, crossed(500, 5));
    CHECK(dco_limits_next(&meter) == UINT64_MAX);
    CHECK(dco_limits_count(&meter, START, crossed(1499, 14)) == 0);
    CHECK(dco_limits_count(&meter, START, crossed(1499, 15)) == BIT(QUOTA_PACKETS));
    CHECK(dco_limits_count(&meter, START, crossed(70000, 60)) == BIT(QUOTA_BYTES));
    CHECK(dco_limits_count(&meter, START, crossed(99999, 99)) == 0);
    set(DCO_LIMIT_QUOTA_BYTES, 1, START, crossed(99999, 99));
    CHECK(dco_limits_count(&meter, START, crossed(100000, 100)) == BIT(QUOTA_BYTES));
    set(DCO_LIMIT_QUOTA_BYTES, 1, START, crossed(100000, 100));
    set(DCO_LIMIT_QUOTA_PACKETS, 1, START, crossed(100000, 100));
    CHECK(dco_limits_count(&meter, START, crossed(100001, 101))
          == (BIT(QUOTA_BYTES) | BIT(QUOTA_PACKETS)));
}

/* The next key is asked for once for each key. */
static void renegotiation(void)
{
    meter = (struct dco_limit_meter){0};
    set(DCO_LIMIT_RENEGOTIATE_PACKETS, 10, START, crossed(0, 0));
    set(DCO_LIMIT_QUOTA_PACKETS, 15, START, crossed(0, 0));
    CHECK(dco_limits_count(&meter, START, crossed(0, 10)) == BIT(RENEGOTIATE_PACKETS));
    CHECK(dco_limits_count(&meter, START, crossed(0, 14)) == 0);
    dco_limits_renew(&meter, crossed(0, 14));
    CHECK(dco_limits_count(&meter, START, crossed(0, 23)) == BIT(QUOTA_PACKETS));
    CHECK(dco_limits_count(&meter, START, crossed(0, 24)) == BIT(RENEGOTIATE_PACKETS));
    set(DCO_LIMIT_RENEGOTIATE_PACKETS, 0, START, crossed(0, 24));
    dco_limits_renew(&meter, crossed(0, 24));
    CHECK(dco_limits_count(&meter, START, crossed(0, 1000)) == 0);
}

static void goes_on_elsewhere(void)
{
    struct dco_limits limits;
    struct dco_limits_state state;
    struct dco_limit_meter other = {0};

    meter = (struct dco_limit_meter){0};
    set(DCO_LIMIT_SESSION, 10, START, crossed(0, 0));
    set(DCO_LIMIT_QUOTA_BYTES, 1000, START, crossed(0, 0));
    set(DCO_LIMIT_QUOTA_PACKETS, 1, START, crossed(0, 0));
    CHECK(dco_limits_count(&meter, START, crossed(900, 1)) == BIT(QUOTA_PACKETS));
    dco_limits_describe(&meter, &limits);
    dco_limits_save(&meter, &state);
    dco_limits_set(&other, &limits, START + 5 * SECOND, crossed(0, 0));
    dco_limits_load(&other, &state);
    CHECK(dco_limits_count(&other, START, crossed(999, 9)) == 0);
    CHECK(dco_limits_count(&other, START, crossed(1000, 10)) == BIT(QUOTA_BYTES));
    CHECK(dco_limits_next(&other) == START + 10 * SECOND);
    dco_limits_describe(&other, &limits);
    CHECK(limits.value[DCO_LIMIT_SESSION] == 10 && limits.value[DCO_LIMIT_QUOTA_PACKETS] == 1);
}

int main(void)
{
    RUN(nothing_is_set);
    RUN(a_session_ends_once);
    RUN(activity_is_so_many_bytes);
    RUN(any_byte_is_activity);
    RUN(quotas);
    RUN(renegotiation);
    RUN(goes_on_elsewhere);
    return 0;
}
