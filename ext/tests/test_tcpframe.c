#include <string.h>

#include "codec/tcpframe.h"
#include "tests/check.h"
#include "tests/stream_model.h"

#define FRAMES 40

static uint8_t stream[200000], arena[300000], tail[70000];
static uint32_t sizes[FRAMES], state;
static size_t stream_size;

static uint32_t next_random(uint32_t below)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
}

static void make_stream(unsigned frames, uint32_t largest)
{
    stream_size = 0;
    for (unsigned i = 0; i < frames; i++) {
        sizes[i] = 1 + next_random(largest);
        dco_tcpframe_put(stream + stream_size, sizes[i]);
        for (uint32_t k = 0; k < sizes[i]; k++)
            stream[stream_size + 2 + k] = (uint8_t)(i * 31 + k);
        stream_size += 2 + sizes[i];
    }
}

/* What one read brings, behind what was kept of the one before. */
static size_t receive(size_t kept, size_t from, size_t to, unsigned *frames)
{
    size_t total = kept + to - from, offset = 0;
    uint8_t *frame;
    uint32_t size;
    int result;
    memcpy(arena, tail, kept);
    memcpy(arena + kept, stream + from, to - from);
    while ((result = dco_tcpframe_next(arena, total, &offset, 65535, &frame, &size)) == 1) {
        CHECK(size == sizes[*frames]);
        for (uint32_t k = 0; k < size; k++)
            CHECK(frame[k] == (uint8_t)(*frames * 31 + k));
        ++*frames;
    }
    CHECK(result == 0);
    memcpy(tail, arena + offset, total - offset);
    return total - offset;
}

static void every_pair_of_cuts(void)
{
    state = 1;
    make_stream(6, 9);
    for (size_t a = 0; a <= stream_size; a++)
        for (size_t b = a; b <= stream_size; b++) {
            unsigned frames = 0;
            size_t kept = receive(0, 0, a, &frames);
            kept = receive(kept, a, b, &frames);
            CHECK(receive(kept, b, stream_size, &frames) == 0 && frames == 6);
        }
}

static void random_pieces(void)
{
    static const uint32_t widths[] = {1, 3, 100, 1500, 60000};
    for (unsigned round = 0; round < 100; round++) {
        state = round;
        make_stream(FRAMES, round % 2 ? 1500 : 4);
        size_t from = 0, kept = 0;
        unsigned frames = 0;
        while (from < stream_size) {
            size_t to = from + 1 + next_random(widths[round % 5]);
            if (to > stream_size)
                to = stream_size;
            kept = receive(kept, from, to, &frames);
            from = to;
        }
        CHECK(!kept && frames == FRAMES);
    }
}

static int next(uint8_t first, uint8_t second, size_t size, uint32_t frame_max)
{
    uint8_t *frame = NULL;
    uint32_t length = 0;
    size_t offset = 5;
    memset(arena, 0, 8);
    arena[5] = first;
    arena[6] = second;
    int result = dco_tcpframe_next(arena, 5 + size, &offset, frame_max, &frame, &length);
    if (result == 1)
        CHECK(frame == arena + 7 && offset == 7 + length);
    else
        CHECK(!frame && !length && offset == 5);
    return result;
}

/* As soon as the prefix is there, and not before. */
static void lengths_that_cannot_be(void)
{
    CHECK(next(0, 0, 1, 2048) == 0);
    CHECK(next(0, 0, 2, 2048) == -EPROTO);
    CHECK(next(0, 0, 100, 2048) == -EPROTO);
    CHECK(next(8, 1, 1, 2048) == 0);
    CHECK(next(8, 1, 2, 2048) == -EMSGSIZE);
    CHECK(next(8, 0, 2, 2048) == 0);
    CHECK(next(8, 0, 2049, 2048) == 0);
    CHECK(next(8, 0, 2050, 2048) == 1);
    CHECK(next(0, 1, 2, 2048) == 0);
    CHECK(next(0, 1, 3, 2048) == 1);
    CHECK(next(255, 255, 65536, 65535) == 0);
    CHECK(next(255, 255, 65537, 65535) == 1);
}

static void runs_of_frames(void)
{
    uint32_t count, at = 0;
    state = 7;
    make_stream(FRAMES, 50);
    uint32_t size = (uint32_t)stream_size;
    CHECK(dco_tcpframe_count(stream, size, 50) == FRAMES);
    CHECK(dco_tcpframe_count(stream, 0, 50) == 0);
    CHECK(dco_tcpframe_count(stream, size - 1, 50) == -EINVAL);
    CHECK(dco_tcpframe_count(stream, 1, 50) == -EINVAL);
    for (unsigned i = 0; i < FRAMES; i++) {
        CHECK(dco_tcpframe_border(stream, size, at, &count) == at && count == i);
        CHECK(dco_tcpframe_border(stream, size, at + 1, &count) == at && count == i);
        CHECK(dco_tcpframe_border(stream, size, at + 1 + sizes[i], &count) == at && count == i);
        at += 2 + sizes[i];
    }
    CHECK(dco_tcpframe_border(stream, size, UINT32_MAX, &count) == size && count == FRAMES);
    uint32_t largest = 0;
    for (unsigned i = 0; i < FRAMES; i++)
        largest = sizes[i] > largest ? sizes[i] : largest;
    CHECK(dco_tcpframe_count(stream, size, largest) == FRAMES);
    CHECK(dco_tcpframe_count(stream, size, largest - 1) == -EMSGSIZE);
    dco_tcpframe_put(stream + 2 + sizes[0], 0);
    CHECK(dco_tcpframe_count(stream, size, 50) == -EPROTO);
}

int main(void)
{
    RUN(every_pair_of_cuts);
    RUN(random_pieces);
    RUN(lengths_that_cannot_be);
    RUN(runs_of_frames);
    return 0;
}
