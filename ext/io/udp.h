/* The outer side over UDP: batches of datagrams in and out, with the kernel's segmentation
 * offloads where they work, on a socket that somebody else made. */
#ifndef DCO_IO_UDP_H
#define DCO_IO_UDP_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dco.h"
#include "io/option.h"
#include "sync/counter.h"

struct dco_udp {
    int fd; /* our copy of the caller's descriptor */
    uint8_t family;
    bool learn_source; /* bound to no address: the source of replies is learned and replayed */
    bool df;
    uint8_t tos_ipv4, tos_ipv6; /* of all that is sent, unless a message says otherwise */
    bool has_tos;               /* one of them is not zero */
    unsigned group;             /* the first of several sockets for one port: how many there are */
    struct dco_address local;
    struct dco_option option[DCO_OPTIONS_MAX];
    unsigned options;
    _Atomic uint32_t offloads; /* DCO_OFFLOAD_UDP_* in use */
    uint32_t supported;
    bool uneven_trains;    /* the kernel spoils trains of datagrams of one size */
    dco_counter overflows; /* SO_RXQ_OVFL, cumulative; receive thread's */
    dco_counter icmp_errors;
    pthread_mutex_t loosening;
    unsigned loose; /* loosening: threads that send what may be fragmented in spite of `df` */
};

/* -ENOTSOCK, -EPROTONOSUPPORT: no UDP socket; -EAFNOSUPPORT; -EDESTADDRREQ: not bound. */
int dco_udp_attach(struct dco_udp *udp, int fd, const struct dco_transport_config *config,
                   uint32_t offloads);
/* The same with a descriptor that becomes ours, also when it fails. */
int dco_udp_take(struct dco_udp *udp, int fd, const struct dco_transport_config *config,
                 uint32_t offloads);
/* Around a send: what the caller sends in between may be fragmented, also where the socket was
 * attached with `df`. Any thread. */
void dco_udp_loosen(struct dco_udp *udp, bool on);
/* Sets an option and remembers what it was. */
bool dco_udp_set_option(struct dco_udp *udp, int level, int name, int value);
/* Puts every option back and closes our copy. */
void dco_udp_detach(struct dco_udp *udp);
/* Whether a kernel of this release spoils trains of datagrams of one size, on some devices. */
bool dco_udp_spoils_trains(const char *release);
int dco_udp_set_offloads(struct dco_udp *udp, uint32_t offloads);
void dco_udp_buffers(const struct dco_udp *udp, uint32_t *send, uint32_t *receive);

/* Opens siblings of `udp[0]` in `udp[1]` and on, which share its port by SO_REUSEPORT: up to `count`
 * sockets altogether. Returns how many there are then; 1 where siblings cannot be had: a connected
 * socket, one that is in a group of its owner, or whose namespace is out of reach. */
unsigned dco_udp_siblings(struct dco_udp *udp, unsigned count,
                          const struct dco_transport_config *config, uint32_t offloads);
/* Sockets that are siblings already, in the order in which they were bound, are used as such. */
void dco_udp_join(struct dco_udp *udp, unsigned sockets, uint32_t offloads);
/* Whether the kernel takes a data packet to the sibling with the number peer id modulo siblings, or
 * any to the one that its addresses hash to. False: refused. */
bool dco_udp_steer(struct dco_udp *udp, bool on);

socklen_t dco_udp_sockaddr(const struct dco_udp *udp, const struct dco_address *address,
                           struct sockaddr_in6 *storage);

/* --- receive --- */

/* Datagrams that came in one message: all of `segment` bytes but the last. */
struct dco_udp_train {
    uint8_t *data;
    uint32_t size;
    uint32_t segment;
    bool truncated;
    uint8_t tos; /* of the outer header: routers may have marked congestion in it */
    struct dco_address remote, local;
};

#define DCO_UDP_CONTROL 160 /* pktinfo, TOS, segment size, overflow counter */

struct dco_udp_inbox {
    uint8_t *buffer; /* DCO_RECV_DATAGRAMS buffers of DCO_RECV_BUFFER bytes */
    unsigned width;  /* messages asked for in the next call */
    struct mmsghdr message[DCO_RECV_DATAGRAMS];
    struct iovec iov[DCO_RECV_DATAGRAMS];
    struct sockaddr_in6 name[DCO_RECV_DATAGRAMS];
    _Alignas(8) uint8_t control[DCO_RECV_DATAGRAMS][DCO_UDP_CONTROL];
    struct dco_udp_train train[DCO_RECV_DATAGRAMS];
};

int dco_udp_inbox_init(struct dco_udp_inbox *inbox);
void dco_udp_inbox_destroy(struct dco_udp_inbox *inbox);

/* Fills inbox->train. How many, or a negative errno; -EAGAIN: nothing there. */
int dco_udp_receive(struct dco_udp *udp, struct dco_udp_inbox *inbox);

/* --- send --- */

/* Sealed datagrams to one place, one behind the other, at most DCO_GSO_SEGMENTS_MAX: all of `segment`
 * bytes but the last. */
struct dco_udp_message {
    const uint8_t *data;
    uint32_t size;
    uint16_t segment;
    uint16_t packets;
    uint8_t tos, tos_mask; /* the bits of the mask are as here, the others the socket's */
    bool single;           /* larger than the route MTU: segmentation offload would refuse it */
    bool loose;            /* may be fragmented on its way, whatever the socket says */
    void *owner;
    struct dco_address remote, local;
    int error;          /* result: 0, or the negative errno of why some or all of it was not sent */
    uint64_t failed_at; /* result: bit n: packet n was not sent */
    bool source_gone;   /* result: this host has the address `local` no more */
};

struct dco_udp_outbox {
    struct mmsghdr header[DCO_SEND_MESSAGES];
    struct iovec iov[DCO_SEND_MESSAGES][2];
    uint8_t tail[DCO_SEND_MESSAGES];
    struct sockaddr_in6 name[DCO_SEND_MESSAGES];
    _Alignas(8) uint8_t control[DCO_SEND_MESSAGES][96]; /* pktinfo, TOS, segment size */
};

/* What a call of dco_udp_send did, for statistics and for what the caller must see to. */
struct dco_udp_tally {
    uint32_t calls, messages, packets;
    uint32_t retries, fallbacks, oversize;
    bool errors_queued; /* the error queue should be drained */
    bool dead;          /* the socket was shut down or is no more */
};

/* Sends what it can, in order, at most DCO_SEND_MESSAGES of them; waits for room in the socket
 * buffer at most DCO_SEND_WAIT_MS, or until `stop_fd` is readable. Never seals again. */
void dco_udp_send(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                  struct dco_udp_message *messages, unsigned count, int stop_fd,
                  struct dco_udp_tally *tally);

/* One datagram from any thread. 0 or a negative errno. */
int dco_udp_send_one(struct dco_udp *udp, const void *data, size_t size,
                     const struct dco_address *remote, const struct dco_address *local);

/* --- errors --- */

struct dco_udp_error {
    struct dco_address remote; /* where the datagram was going */
    int error;                 /* positive errno */
    uint32_t mtu;              /* of the path, with EMSGSIZE; else 0 */
};

/* The next entry of the error queue: true, and the entry. Also clears the socket's pending error. */
bool dco_udp_next_error(struct dco_udp *udp, struct dco_udp_error *error);

#endif
