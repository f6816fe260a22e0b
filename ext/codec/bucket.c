#include "codec/bucket.h"

#define PER_BYTE UINT64_C(8000000000)

/* The product has more than 64 bits after a minute at 1 Tbit/s. */
static void fill(struct dco_bucket *bucket, uint64_t bits_per_s, uint64_t full, uint64_t now_ns)
{
    uint64_t elapsed = now_ns > bucket->filled_ns ? now_ns - bucket->filled_ns : 0;
    unsigned __int128 tokens = (unsigned __int128)elapsed * bits_per_s + bucket->tokens;

    if (!bucket->filled_ns || tokens > full)
        tokens = full;
    bucket->tokens = (uint64_t)tokens;
    if (now_ns > bucket->filled_ns)
        bucket->filled_ns = now_ns;
}

uint32_t dco_bucket_take(struct dco_bucket *bucket, uint64_t bits_per_s, uint32_t burst,
                         uint64_t now_ns, uint32_t size, uint32_t count)
{
    uint64_t price = size * PER_BYTE, passed;

    fill(bucket, bits_per_s, burst * PER_BYTE, now_ns);
    passed = bucket->tokens / price;
    if (passed > count)
        passed = count;
    bucket->tokens -= passed * price;
    return (uint32_t)passed;
}
