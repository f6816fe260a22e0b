#include "tests/replay_model.h"

static struct dco_pktid_window window;
static struct replay_model model;

static void start(void)
{
    dco_pktid_window_init(&window);
    model = (struct replay_model){0};
}

static bool accept(uint64_t id, uint64_t now_s)
{
    bool fresh = dco_pktid_accept(&window, id, now_s);
    CHECK(fresh == replay_model_accept(&model, id, now_s));
    return fresh;
}

static void counter_stops_for_ever(void)
{
    static const uint64_t last[] = {DCO_PKTID_MAX, DCO_EPOCH_COUNTER_MAX};
    struct dco_pktid_counter counter;
    uint64_t id;
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        dco_pktid_counter_init(&counter, 0, last[i]);
        CHECK(dco_pktid_next(&counter, &id) && id == 1);
        CHECK(dco_pktid_next(&counter, &id) && id == 2);
        dco_pktid_counter_init(&counter, last[i] - 1, last[i]);
        CHECK(dco_pktid_next(&counter, &id) && id == last[i] - 1);
        CHECK(dco_pktid_next(&counter, &id) && id == last[i]);
        for (int k = 0; k < 5; k++)
            CHECK(!dco_pktid_next(&counter, &id));
    }
}

static void in_order_and_repeated(void)
{
    start();
    CHECK(!accept(0, 1));
    for (uint32_t id = 1; id < 5000; id++) {
        CHECK(accept(id, 1));
        CHECK(!accept(id, 1));
    }
}

static void reordered(void)
{
    start();
    CHECK(accept(5000, 1));
    CHECK(accept(5000 - 2047, 1));
    CHECK(!accept(5000 - 2048, 1));
    CHECK(!accept(5000 - 2047, 1));
    for (uint32_t id = 4999; id > 5000 - 2047; id--)
        CHECK(accept(id, 1));
}

static void jumps(void)
{
    static const uint32_t jump[] = {2, 63, 64, 65, 1000, 2046, 2047, 2048, 2049, 4096, 1000000};
    for (size_t i = 0; i < sizeof jump / sizeof jump[0]; i++)
        for (uint32_t first = 1; first < 200; first += 33) {
            start();
            for (uint32_t id = first; id < first + 100; id++)
                CHECK(accept(id, 1));
            uint32_t newest = first + 99 + jump[i];
            CHECK(accept(newest, 1));
            for (uint32_t back = 0; back < 2200 && back < newest; back++)
                accept(newest - back, 1);
        }
}

static void end_of_the_numbers(void)
{
    static const uint64_t last[] = {DCO_PKTID_MAX, DCO_EPOCH_COUNTER_MAX};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        start();
        CHECK(accept(last[i], 1));
        CHECK(accept(last[i] - 2047, 1));
        CHECK(!accept(last[i] - 2048, 1));
        CHECK(!accept(last[i], 1));
        CHECK(!accept(1, 1));
    }
}

/* Ids of the epoch format go on where those of the classic one end. */
static void beyond_four_bytes(void)
{
    start();
    for (uint64_t id = DCO_PKTID_MAX - 100; id <= DCO_PKTID_MAX + 100; id++)
        CHECK(accept(id, 1));
    CHECK(!accept(1, 1));
    CHECK(!accept(DCO_PKTID_MAX + 1, 1));
    CHECK(accept(DCO_PKTID_MAX + 2147, 1));
    CHECK(!accept(DCO_PKTID_MAX + 100, 1));
    CHECK(accept(DCO_PKTID_MAX + 101, 1));
    CHECK(accept(UINT64_C(1) << 40, 1));
    CHECK(!accept(DCO_PKTID_MAX + 2146, 1));
}

static void silence_raises_the_floor(void)
{
    start();
    CHECK(accept(100, 10));
    CHECK(accept(90, 39));  /* 29 s */
    CHECK(accept(91, 68));  /* counted from the last accepted */
    CHECK(!accept(92, 98)); /* 30 s */
    CHECK(!accept(93, 98));
    CHECK(accept(101, 98));
    CHECK(!accept(99, 99));
    CHECK(accept(105, 99));
    CHECK(accept(103, 99)); /* above the floor */
}

int main(void)
{
    RUN(counter_stops_for_ever);
    RUN(in_order_and_repeated);
    RUN(reordered);
    RUN(jumps);
    RUN(end_of_the_numbers);
    RUN(beyond_four_bytes);
    RUN(silence_raises_the_floor);
    return 0;
}
