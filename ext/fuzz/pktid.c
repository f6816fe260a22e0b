/* Sequences of ids and of time against a plain list, and the counter near its end. */
#include "tests/packets.h"
#include "tests/replay_model.h"

static struct replay_model model;

static void check_counter(uint64_t first, uint64_t last)
{
    struct dco_pktid_counter counter;
    uint64_t id, previous = 0;
    dco_pktid_counter_init(&counter, first, last);
    for (int i = 0; i < 16; i++) {
        if (!dco_pktid_next(&counter, &id)) {
            CHECK(counter.next > last);
            continue;
        }
        CHECK(id > previous && id == (first ? first : 1) + (uint64_t)i && id <= last);
        previous = id;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dco_pktid_window window;
    uint64_t now_s = 1;
    if (size < 4)
        return 0;
    uint64_t id = get32(data);
    check_counter(id, DCO_PKTID_MAX);
    check_counter(id << 16 | id >> 16, DCO_EPOCH_COUNTER_MAX);
    dco_pktid_window_init(&window);
    model.newest = model.floor = model.count = 0;
    for (size_t i = 4; i + 3 <= size && model.count < REPLAY_MODEL_MAX; i += 3) {
        uint32_t step = (uint32_t)get16(data + i + 1);
        switch (data[i] & 7) {
        case 0: id++; break;
        case 1: id += step; break;
        case 2: id -= step; break;
        case 3: id = model.newest - step % (DCO_REPLAY_WINDOW + 2); break;
        case 4: id = model.newest + step % (DCO_REPLAY_WINDOW + 2); break;
        case 5: id += (uint64_t)step << (step & 16 ? 32 : 16); break;
        case 6: id = data[i + 1]; break;
        case 7: break;
        }
        id &= DCO_EPOCH_COUNTER_MAX;
        now_s += data[i] >> 3;
        CHECK(dco_pktid_accept(&window, id, now_s) == replay_model_accept(&model, id, now_s));
    }
    return 0;
}
