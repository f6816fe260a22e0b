# The loops of the benchmark: pure C behind thin wrappers, without the GIL for all of their time.

cdef extern from "bench/crypto_loop.h" nogil:
    struct dco_crypto_loop:
        int cipher
        size_t key_size
        size_t size
        uint32_t batches
        bint seal
        int own

    struct dco_crypto_cost:
        double raw_ns
        double core_ns

    int dco_crypto_loop_run(const dco_crypto_loop *loop, dco_crypto_cost *cost)


cdef extern from "bench/generator.h" nogil:
    struct dco_generator:
        int fd
        uint32_t size
        uint32_t run
        double rate_pps
        uint64_t time_ns

    struct dco_generator_sent:
        uint64_t packets
        uint64_t refused
        uint64_t time_ns

    struct dco_receiver:
        int fd
        uint32_t run
        uint64_t limit_ns
        uint64_t quiet_ns

    struct dco_receiver_count:
        uint64_t packets
        uint64_t bytes
        uint64_t reordered
        uint64_t strangers
        uint64_t time_ns

    int dco_generator_send(const dco_generator *generator, dco_generator_sent *sent)
    int dco_generator_receive(const dco_receiver *receiver, dco_receiver_count *count)


cdef extern from "<openssl/crypto.h>" nogil:
    enum:
        OPENSSL_VERSION
    const char *OpenSSL_version(int type)


def openssl_version():
    """The libcrypto that the core runs on."""
    return OpenSSL_version(OPENSSL_VERSION).decode()


def bench_crypto(int cipher, size_t key_size, size_t size, uint32_t batches, bint seal, *,
                 int own=0):
    """Nanoseconds per packet, (EVP alone, the core): medians over batches of 64 packets.

    `own` is whose AES-GCM the core uses, as `probe_gcm` tells: 0 is OpenSSL's."""
    cdef dco_crypto_loop loop
    cdef dco_crypto_cost cost
    cdef int error
    if own not in GCM_KINDS:
        raise OSError(EINVAL, f"this processor has no AES-GCM of {own} bits")
    loop.cipher, loop.key_size, loop.size = cipher, key_size, size
    loop.batches, loop.seal, loop.own = batches, seal, own
    with nogil:
        error = dco_crypto_loop_run(&loop, &cost)
    check(error)
    return cost.raw_ns, cost.core_ns


def bench_send(int fd, uint32_t size, uint32_t run, double rate_pps, double time_s):
    """Send numbered datagrams on a connected UDP socket: (packets, refused, seconds)."""
    cdef dco_generator generator
    cdef dco_generator_sent sent
    cdef int error
    generator.fd, generator.size, generator.run = fd, size, run
    generator.rate_pps, generator.time_ns = rate_pps, <uint64_t>(time_s * 1e9)
    with nogil:
        error = dco_generator_send(&generator, &sent)
    check(error)
    return sent.packets, sent.refused, sent.time_ns / 1e9


def bench_receive(int fd, uint32_t run, double limit_s, double quiet_s):
    """Count datagrams of a run: (packets, payload bytes, reordered, strangers, seconds)."""
    cdef dco_receiver receiver
    cdef dco_receiver_count count
    cdef int error
    receiver.fd, receiver.run = fd, run
    receiver.limit_ns, receiver.quiet_ns = <uint64_t>(limit_s * 1e9), <uint64_t>(quiet_s * 1e9)
    with nogil:
        error = dco_generator_receive(&receiver, &count)
    check(error)
    return count.packets, count.bytes, count.reordered, count.strangers, count.time_ns / 1e9
