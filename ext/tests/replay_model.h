/* The replay rules by a plain list of what was accepted. */
#ifndef DCO_TESTS_REPLAY_MODEL_H
#define DCO_TESTS_REPLAY_MODEL_H

#include "bounds.h"
#include "codec/pktid.h"
#include "tests/check.h"

#define REPLAY_MODEL_MAX 16384

struct replay_model {
    uint64_t newest, floor;
    uint64_t last_s; /* of the last accepted packet */
    unsigned count;
    uint64_t accepted[REPLAY_MODEL_MAX];
};

static inline bool replay_model_accept(struct replay_model *model, uint64_t id, uint64_t now_s)
{
    if (model->count > 0 && now_s >= model->last_s + DCO_REPLAY_SILENCE_S)
        model->floor = model->newest;
    if (id == 0 || id <= model->floor)
        return false;
    if (id <= model->newest && model->newest - id >= DCO_REPLAY_WINDOW)
        return false;
    for (unsigned i = 0; i < model->count; i++)
        if (model->accepted[i] == id)
            return false;
    if (id > model->newest)
        model->newest = id;
    model->last_s = now_s;
    model->accepted[model->count++] = id;
    return true;
}

#endif
