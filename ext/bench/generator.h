/* A UDP generator and a counting receiver, for rates that iperf3's sender cannot offer.
 *
 * Datagrams are single (no GSO), sent by sendmmsg, and carry the number of the run and their own,
 * so that the receiver counts only what belongs to it and sees reordering. */
#ifndef DCO_BENCH_GENERATOR_H
#define DCO_BENCH_GENERATOR_H

#include <stdint.h>

/* Run, padding, sequence: the smallest payload that can be numbered, and the largest. */
#define DCO_GENERATOR_PAYLOAD_MIN 16u
#define DCO_GENERATOR_PAYLOAD_MAX 9000u

struct dco_generator {
    int fd;           /* a connected UDP socket */
    uint32_t size;    /* UDP payload, bytes */
    uint32_t run;     /* tells this run's datagrams from stragglers of another */
    double rate_pps;  /* packets per second; 0: as fast as it goes */
    uint64_t time_ns; /* how long */
};

struct dco_generator_sent {
    uint64_t packets;
    uint64_t refused; /* sends that the kernel turned down: offered, and lost */
    uint64_t time_ns; /* what it took */
};

struct dco_receiver {
    int fd; /* a bound UDP socket */
    uint32_t run;
    uint64_t limit_ns; /* give up after this */
    uint64_t quiet_ns; /* done when nothing came for this long after the first packet */
};

struct dco_receiver_count {
    uint64_t packets;
    uint64_t bytes;     /* UDP payload */
    uint64_t reordered; /* arrived after one with a higher number */
    uint64_t strangers; /* not of this run */
    uint64_t time_ns;   /* from the first to the last packet */
};

/* Both block; negative errno of the socket, or -EINVAL for a size out of range. */
int dco_generator_send(const struct dco_generator *generator, struct dco_generator_sent *sent);
int dco_generator_receive(const struct dco_receiver *receiver, struct dco_receiver_count *count);

#endif
