/* AES-GCM on vectors of LANES blocks, whatever LANES is: the body of gcm_vaes256.c and
 * gcm_vaes512.c, which include it once each, behind their vector operations.
 *
 * Blocks are taken in groups of four vectors. The keystream of a group comes from four chains of
 * AES rounds that do not depend on each other, which hides the latency of each round. GHASH of a
 * group is
 *
 *     (Y + X1) * H^n + X2 * H^(n-1) + ... + Xn * H
 *
 * with one reduction for the sum, instead of one for each block: the powers of H are part of the
 * key. While a group is encrypted, the one before it is hashed between the rounds: products fill
 * the gaps that the rounds leave. To decrypt, a group is hashed with its own decryption, since its
 * ciphertext is there from the start. The last group, 1 to 4 vectors with the last one perhaps
 * partial, takes the block of lengths along; a short packet is nothing but that group.
 *
 * Round keys are read from the key again for every group: what is stored to `out` might, for all the
 * compiler knows, have changed them. That is as fast, since they would not all stay in registers, and
 * it keeps them from being spilled to the stack. */

/* A loop over the vectors of a group is straight code in the end, so that they live in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define EACH(i, from, end) UNROLL for (uint32_t i = (from); i < (end); i++)

enum { VECTORS = 4, GROUP = VECTORS * VECTOR, GROUP_BLOCKS = VECTORS * LANES };

_Static_assert(GROUP_BLOCKS + 1 <= DCO_GCM_POWERS, "a group and the lengths have their powers");
_Static_assert(LANES - 1 <= DCO_GCM_PADDING, "no lane of the last vector lacks a factor");

/* One packet on its way. */
struct run {
    const struct dco_gcm *gcm;
    vector counter; /* the next counter blocks, byte-reversed */
    vector order;   /* of the bytes of a block, reversed */
    __m128i hash;   /* Y of SP 800-38D, byte-reversed */
    const uint8_t *in;
    uint8_t *out;
    size_t left;
};

/* The sum of products before the reduction; its parts as in struct dco_block_product. */
struct sum {
    vector low, middle, high;
};

INLINE struct sum sum_begin(struct dco_block_product product)
{
    return (struct sum){only(product.low), only(product.middle), only(product.high)};
}

INLINE void sum_add(struct sum *sum, vector blocks, const uint8_t *powers)
{
    vector factor = load(powers);

    sum->low = add(sum->low, multiply(blocks, factor, 0x00));
    sum->high = add(sum->high, multiply(blocks, factor, 0x11));
    sum->middle = add3(sum->middle, multiply(blocks, factor, 0x01), multiply(blocks, factor, 0x10));
}

/* dco_block_reduce in each lane, and the lanes added. */
INLINE __m128i sum_end(const struct sum *sum)
{
    const vector polynomial = repeat(_mm_cvtsi64_si128(DCO_GCM_POLYNOMIAL));
    vector middle = add3(sum->middle, swap(sum->low), multiply(sum->low, polynomial, 0x00));

    return add_lanes(add3(sum->high, swap(middle), multiply(middle, polynomial, 0x00)));
}

INLINE vector round_key(const struct dco_gcm *gcm, uint32_t round)
{
    return repeat(dco_block_load(gcm->round_key[round]));
}

INLINE void all_round(const struct run *run, vector *state, uint32_t count, uint32_t round)
{
    vector key = round_key(run->gcm, round);

    EACH (i, 0, count)
        state[i] = cipher_round(state[i], key);
}

INLINE void all_begin(struct run *run, vector *state, uint32_t count)
{
    const vector step = repeat(_mm_cvtsi32_si128(LANES));
    vector key = round_key(run->gcm, 0);

    EACH (i, 0, count) {
        state[i] = add(shuffle(run->counter, run->order), key);
        run->counter = count_on(run->counter, step);
    }
}

/* What longer keys have more, and the last round. */
INLINE void all_end(const struct run *run, vector *state, uint32_t count)
{
    uint32_t rounds = run->gcm->rounds;
    vector key;

    if (rounds > 10) {
        all_round(run, state, count, 10);
        all_round(run, state, count, 11);
    }
    if (rounds > 12) {
        all_round(run, state, count, 12);
        all_round(run, state, count, 13);
    }
    key = round_key(run->gcm, rounds);
    EACH (i, 0, count)
        state[i] = cipher_last(state[i], key);
}

INLINE void keystream(struct run *run, vector *state, uint32_t count)
{
    all_begin(run, state, count);
    EACH (round, 1, 10)
        all_round(run, state, count, round);
    all_end(run, state, count);
}

/* The keystream of a group, with `blocks`, a group of ciphertext, hashed between the rounds. */
INLINE void keystream_and_hash(struct run *run, vector *state, const vector *blocks)
{
    const uint8_t *powers = run->gcm->power[DCO_GCM_POWER(GROUP_BLOCKS)];
    struct sum sum = {0};

    all_begin(run, state, VECTORS);
    EACH (round, 1, 10) {
        all_round(run, state, VECTORS, round);
        if (round % 2 == 0) {
            uint32_t i = round / 2 - 1;
            vector block = shuffle(blocks[i], run->order);
            sum_add(&sum, i ? block : add(block, only(run->hash)), powers + i * VECTOR);
        }
    }
    all_end(run, state, VECTORS);
    run->hash = sum_end(&sum);
}

INLINE void hash_group(struct run *run, const vector *blocks)
{
    const uint8_t *powers = run->gcm->power[DCO_GCM_POWER(GROUP_BLOCKS)];
    struct sum sum = {0};

    EACH (i, 0, VECTORS) {
        vector block = shuffle(blocks[i], run->order);
        sum_add(&sum, i ? block : add(block, only(run->hash)), powers + i * VECTOR);
    }
    run->hash = sum_end(&sum);
}

/* All of the group is read before any of it is written: `out` may be `in`. */
INLINE void load_group(const struct run *run, vector *blocks)
{
    EACH (i, 0, VECTORS)
        blocks[i] = load(run->in + i * VECTOR);
}

INLINE void add_group(vector *blocks, const vector *state)
{
    EACH (i, 0, VECTORS)
        blocks[i] = add(blocks[i], state[i]);
}

INLINE void store_group(struct run *run, const vector *blocks)
{
    EACH (i, 0, VECTORS)
        store(run->out + i * VECTOR, blocks[i]);
    run->in += GROUP;
    run->out += GROUP;
    run->left -= GROUP;
}

/* All groups but the last. */
INLINE void seal_groups(struct run *run)
{
    vector sealed[VECTORS], state[VECTORS];

    if (run->left <= GROUP)
        return;
    load_group(run, sealed);
    keystream(run, state, VECTORS);
    add_group(sealed, state);
    store_group(run, sealed);
    while (run->left > GROUP) {
        keystream_and_hash(run, state, sealed);
        load_group(run, sealed);
        add_group(sealed, state);
        store_group(run, sealed);
    }
    hash_group(run, sealed);
}

INLINE void open_groups(struct run *run)
{
    vector blocks[VECTORS], state[VECTORS];

    while (run->left > GROUP) {
        load_group(run, blocks);
        keystream_and_hash(run, state, blocks);
        add_group(blocks, state);
        store_group(run, blocks);
    }
}

/* The last group, of `count` vectors: 1 to GROUP bytes and the lengths. Blocks are numbered so that
 * the lengths get H and the block before them H^2. */
INLINE void last_group(struct run *run, struct sum sum, bool seal, uint32_t count)
{
    size_t last = run->left - (count - 1) * VECTOR;
    size_t blocks_left = (run->left + DCO_GCM_BLOCK - 1) / DCO_GCM_BLOCK;
    const uint8_t *powers = run->gcm->power[DCO_GCM_POWER(blocks_left + 1)];
    vector blocks[VECTORS], state[VECTORS];

    EACH (i, 0, count - 1)
        blocks[i] = load(run->in + i * VECTOR);
    blocks[count - 1] = load_part(run->in + (count - 1) * VECTOR, last);
    keystream(run, state, count);
    EACH (i, 0, count)
        state[i] = add(state[i], blocks[i]);
    EACH (i, 0, count - 1)
        store(run->out + i * VECTOR, state[i]);
    store_part(run->out + (count - 1) * VECTOR, state[count - 1], last);
    state[count - 1] = keep_part(state[count - 1], last);

    EACH (i, 0, count) {
        vector block = shuffle(seal ? state[i] : blocks[i], run->order);
        sum_add(&sum, i ? block : add(block, only(run->hash)), powers + i * VECTOR);
    }
    run->hash = sum_end(&sum);
}

/* The number of vectors is made a constant, so that everything stays in registers. */
INLINE void finish(struct run *run, __m128i lengths, bool seal)
{
    const __m128i key = dco_block_load(run->gcm->power[DCO_GCM_POWER(1)]);
    struct sum sum = sum_begin(dco_block_product(lengths, key));

    switch ((run->left + VECTOR - 1) / VECTOR) {
    case 0: run->hash = dco_block_multiply(_mm_xor_si128(run->hash, lengths), key); break;
    case 1: last_group(run, sum, seal, 1); break;
    case 2: last_group(run, sum, seal, 2); break;
    case 3: last_group(run, sum, seal, 3); break;
    default: last_group(run, sum, seal, 4); break;
    }
}

/* Block by block: there is one, and the cipher, which starts at the same time, takes longer. */
INLINE __m128i hash_aad(const struct dco_gcm *gcm, const uint8_t *aad, size_t size)
{
    const __m128i key = dco_block_load(gcm->power[DCO_GCM_POWER(1)]);
    __m128i hash = _mm_setzero_si128();

    while (size) {
        size_t part = size < DCO_GCM_BLOCK ? size : DCO_GCM_BLOCK;
        __m128i block = dco_block_reverse(part == DCO_GCM_BLOCK ? dco_block_load(aad)
                                                                : dco_block_load_part(aad, part));

        hash = dco_block_multiply(_mm_xor_si128(hash, block), key);
        aad += part;
        size -= part;
    }
    return hash;
}

/* SP 800-38D, 7.1 and 7.2. Counter 1 masks the tag, data begins at 2. */
INLINE void run_packet(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE],
                       const uint8_t *aad, size_t aad_size, const uint8_t *in, size_t size,
                       uint8_t *out, uint8_t tag[DCO_WIRE_TAG], bool seal)
{
    const __m128i first = dco_block_counter(nonce);
    const __m128i mask = dco_block_encrypt(gcm, dco_block_reverse(first));
    const vector start = count_on(repeat(first), repeat(_mm_cvtsi32_si128(1)));
    struct run run = {
        .gcm = gcm,
        .counter = count_on(start, lane_numbers()),
        .order = repeat(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
        .hash = hash_aad(gcm, aad, aad_size),
        .in = in,
        .out = out,
        .left = size,
    };

    if (seal)
        seal_groups(&run);
    else
        open_groups(&run);
    finish(&run, dco_block_lengths(aad_size, size), seal);
    _mm_storeu_si128((void *)tag, _mm_xor_si128(mask, dco_block_reverse(run.hash)));
}

KERNEL void RUN_ENCRYPT(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE],
                        const uint8_t *aad, size_t aad_size, const uint8_t *in, size_t size,
                        uint8_t *out, uint8_t tag[DCO_WIRE_TAG])
{
    run_packet(gcm, nonce, aad, aad_size, in, size, out, tag, true);
}

KERNEL void RUN_DECRYPT(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE],
                        const uint8_t *aad, size_t aad_size, const uint8_t *in, size_t size,
                        uint8_t *out, uint8_t tag[DCO_WIRE_TAG])
{
    run_packet(gcm, nonce, aad, aad_size, in, size, out, tag, false);
}
