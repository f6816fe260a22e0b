/* The framing of a TCP stream by a machine that takes a byte at a time. */
#ifndef DCO_TESTS_STREAM_MODEL_H
#define DCO_TESTS_STREAM_MODEL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

struct stream_model {
    uint32_t frame_max;
    unsigned prefix; /* bytes of the prefix that have come */
    uint32_t length, come;
    int error;
};

/* 1: with this byte a frame of `model->length` bytes is complete; 0; or the stream's error. */
static inline int stream_model_byte(struct stream_model *model, uint8_t byte)
{
    if (model->error)
        return model->error;
    if (model->prefix < 2) {
        model->length = model->prefix ? model->length * 256 + byte : byte;
        model->come = 0;
        if (++model->prefix == 2 && (!model->length || model->length > model->frame_max))
            model->error = model->length ? -EMSGSIZE : -EPROTO;
        return model->error;
    }
    if (++model->come < model->length)
        return 0;
    model->prefix = 0;
    return 1;
}

#endif
