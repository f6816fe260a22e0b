/* A token bucket: how much may pass at a rate, with bursts up to a bound.
 *
 * Tokens are bits times nanoseconds per second, so nothing is ever rounded: a nanosecond brings as
 * many of them as the rate has bits per second. One owner; no lock. */
#ifndef DCO_CODEC_BUCKET_H
#define DCO_CODEC_BUCKET_H

#include <stdint.h>

#include "bounds.h"

struct dco_bucket {
    uint64_t tokens;
    uint64_t filled_ns; /* when they were counted; 0: never, and it is full */
};

/* Takes up to `count` packets of `size` bytes each; returns how many may pass. `size` is not 0, and
 * `burst` at most DCO_RATE_BURST_MAX, which is nearly 2^63 tokens; a packet larger than the burst
 * never passes. */
uint32_t dco_bucket_take(struct dco_bucket *bucket, uint64_t bits_per_s, uint32_t burst,
                         uint64_t now_ns, uint32_t size, uint32_t count);

#endif
