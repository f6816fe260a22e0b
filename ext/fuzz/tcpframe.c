/* Any stream in any pieces, as the engine reads it, against a machine that takes single bytes. The
 * first bytes of input choose the largest frame and the pieces. */
#include <string.h>

#include "codec/tcpframe.h"
#include "tests/check.h"
#include "tests/stream_model.h"

struct reader {
    uint8_t *tail; /* of exactly its size, so that ASan sees a byte too many */
    size_t kept, passed;
    uint32_t frame_max;
    int error;
    const uint8_t *stream;
    struct stream_model model;
    size_t modelled;
};

/* The next event of the model is this frame, where the reader says that it is. */
static void check_frame(struct reader *reader, size_t at, uint32_t size)
{
    int result = 0;
    while (!result)
        result = stream_model_byte(&reader->model, reader->stream[reader->modelled++]);
    CHECK(result == 1 && reader->model.length == size && reader->modelled == at + size);
}

static void receive(struct reader *reader, const uint8_t *piece, size_t size)
{
    size_t total = reader->kept + size, offset = 0, before = reader->passed - reader->kept;
    uint8_t *arena = malloc(total ? total : 1), *frame;
    uint32_t length;
    if (reader->kept)
        memcpy(arena, reader->tail, reader->kept);
    memcpy(arena + reader->kept, piece, size);
    while ((reader->error =
                dco_tcpframe_next(arena, total, &offset, reader->frame_max, &frame, &length))
           == 1) {
        CHECK(frame + length == arena + offset && length > 0 && length <= reader->frame_max);
        check_frame(reader, before + (size_t)(frame - arena), length);
    }
    free(reader->tail);
    reader->kept = total - offset;
    reader->passed += size;
    CHECK(reader->error || reader->kept < reader->frame_max + DCO_TCPFRAME_PREFIX);
    reader->tail = malloc(reader->kept ? reader->kept : 1);
    memcpy(reader->tail, arena + offset, reader->kept);
    free(arena);
}

/* What remains gives the model no frame, and the same error at once as the reader's. */
static void check_end(struct reader *reader)
{
    int result = 0;
    while (!result && reader->modelled < reader->passed)
        result = stream_model_byte(&reader->model, reader->stream[reader->modelled++]);
    CHECK(result == reader->error);
}

static void check_borders(const uint8_t *stream, size_t size, uint32_t limit)
{
    uint32_t at = 0, expected = 0, frames = 0, counted;
    int count = dco_tcpframe_count(stream, (uint32_t)size, DCO_TCPFRAME_MAX);
    if (count < 0)
        return;
    for (int i = 0; i < count; i++) {
        at += 2 + (uint32_t)(stream[at] * 256 + stream[at + 1]);
        CHECK(at <= size);
        if (at <= limit) {
            expected = at;
            frames++;
        }
    }
    CHECK(at == size);
    CHECK(dco_tcpframe_border(stream, (uint32_t)size, limit, &counted) == expected);
    CHECK(counted == frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader reader = {0};
    uint32_t state;
    if (size < 4)
        return 0;
    reader.frame_max = reader.model.frame_max = 1 + (uint32_t)data[0] * 257 % DCO_TCPFRAME_MAX;
    state = data[1];
    unsigned width = data[2] + 1u;
    reader.stream = data + 3;
    size -= 3;
    while (!reader.error && reader.passed < size) {
        state = state * 1664525 + 1013904223;
        size_t piece = 1 + (state >> 8) % width;
        if (piece > size - reader.passed)
            piece = size - reader.passed;
        receive(&reader, reader.stream + reader.passed, piece);
        check_end(&reader);
    }
    free(reader.tail);
    check_borders(data + 3, size, data[0] * 4u);
    return 0;
}
