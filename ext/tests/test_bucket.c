#include "codec/bucket.h"
#include "tests/check.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

static void full_at_first(void)
{
    struct dco_bucket bucket = {0};

    CHECK(dco_bucket_take(&bucket, 8, 3000, START, 1500, 5) == 2);
    CHECK(dco_bucket_take(&bucket, 8, 3000, START, 1, 1) == 0);
}

/* 1000 bytes a second: what passes is counted to the byte, however it is asked for. */
static void holds_the_rate_exactly(void)
{
    static const uint64_t step_ns[] = {1, 7, 999, 1000000, 12345678, SECOND};

    for (size_t i = 0; i < sizeof step_ns / sizeof step_ns[0]; i++) {
        struct dco_bucket bucket = {0};
        uint64_t now = START, passed = 0, steps = 100000;
        CHECK(dco_bucket_take(&bucket, 8000, 2000, now, 1, 2000) == 2000);
        for (uint64_t step = 0; step < steps; step++) {
            now += step_ns[i];
            passed += dco_bucket_take(&bucket, 8000, 2000, now, 1, 5000);
        }
        CHECK(passed == (now - START) * 1000 / SECOND);
    }
}

static void whole_packets_only(void)
{
    struct dco_bucket bucket = {0};
    uint64_t now = START, passed = 0;

    CHECK(dco_bucket_take(&bucket, 8000000, 65535, now, 65535, 1) == 1);
    for (int i = 0; i < 10000; i++) {
        now += SECOND / 1000;
        passed += dco_bucket_take(&bucket, 8000000, 65535, now, 1400, 44) * UINT64_C(1400);
    }
    CHECK(passed <= 10000000 && passed > 10000000 - 1400);
}

static void never_more_than_the_burst(void)
{
    struct dco_bucket bucket = {0};

    CHECK(dco_bucket_take(&bucket, 8000, 2000, START, 2000, 1) == 1);
    CHECK(dco_bucket_take(&bucket, 8000, 2000, START + 3600 * SECOND, 1, 5000) == 2000);
    CHECK(dco_bucket_take(&bucket, 8000, 2000, START + 7200 * SECOND, 2001, 1) == 0);
    /* A smaller burst counts from the next packet on. */
    CHECK(dco_bucket_take(&bucket, 8000, 500, START + 7200 * SECOND, 1, 5000) == 500);
}

static void time_that_stands_or_goes_back(void)
{
    struct dco_bucket bucket = {0};

    CHECK(dco_bucket_take(&bucket, 8000, 2000, START, 2000, 1) == 1);
    CHECK(dco_bucket_take(&bucket, 8000, 2000, START, 1, 1) == 0);
    CHECK(dco_bucket_take(&bucket, 8000, 2000, START - SECOND, 1, 1) == 0);
    CHECK(dco_bucket_take(&bucket, 8000, 2000, START + SECOND / 2, 1, 5000) == 500);
}

static void largest_numbers(void)
{
    struct dco_bucket bucket = {0};

    CHECK(dco_bucket_take(&bucket, UINT64_MAX, DCO_RATE_BURST_MAX, 1, 1, UINT32_MAX)
          == DCO_RATE_BURST_MAX);
    CHECK(dco_bucket_take(&bucket, UINT64_MAX, DCO_RATE_BURST_MAX, UINT64_MAX, UINT32_MAX, 1) == 0);
    CHECK(dco_bucket_take(&bucket, UINT64_MAX, DCO_RATE_BURST_MAX, UINT64_MAX, 65536, UINT32_MAX)
          == DCO_RATE_BURST_MAX / 65536);
}

int main(void)
{
    RUN(full_at_first);
    RUN(holds_the_rate_exactly);
    RUN(whole_packets_only);
    RUN(never_more_than_the_burst);
    RUN(time_that_stands_or_goes_back);
    RUN(largest_numbers);
    return 0;
}
