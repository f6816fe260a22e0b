/* The outer side over TCP: one connection, which somebody else made, of one peer.
 *
 * Its two halves share nothing that is not atomic. The receive half belongs to the home worker's
 * receive thread. Sending needs nothing but the descriptor; what waits to be sent is in
 * io/tcp_queue.h and belongs to the holder of that worker's `sealing`. */
#ifndef DCO_IO_TCP_H
#define DCO_IO_TCP_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "dco.h"
#include "io/option.h"

/* The start of a frame whose end has not come yet. */
struct dco_tcp_tail {
    uint32_t frame_max; /* the largest frame that the connection may bring */
    uint32_t size;      /* bytes kept: at most frame_max and its prefix */
    uint8_t data[];
};

struct dco_tcp {
    int fd; /* our copy of the caller's descriptor */
    uint8_t family;
    struct dco_address local, remote;
    struct dco_option option[DCO_OPTIONS_MAX];
    unsigned options;

    struct dco_tcp_tail *tail;               /* receive thread's */
    _Atomic(struct dco_tcp_tail *) reserved; /* a larger one, until the receive thread takes it */
    uint32_t reserved_max;                   /* frame_max of the largest yet; the API thread's */
};

/* What dco_tcp_attach takes, and with `listening` what dco_tcp_listener_attach takes. -ENOTSOCK;
 * -EAFNOSUPPORT: neither IPv4 nor IPv6; -EPROTONOSUPPORT: no TCP socket; -EINVAL: it listens, or
 * does not and should. Gives the family and the local address. */
int dco_tcp_check(int fd, bool listening, uint8_t *family, struct dco_address *local);

/* Uses a copy of a connected socket. Further: -ENOTCONN: not established, or no longer; -EBUSY: an
 * upper layer protocol such as kernel TLS has it; -ENOMEM. O_NONBLOCK, which the caller shares,
 * stays as it is. What was received before is there to be read. */
int dco_tcp_attach(struct dco_tcp *tcp, int fd, const struct dco_transport_config *config);
/* Puts every option back and closes our copy. Nobody uses the connection any more. */
void dco_tcp_detach(struct dco_tcp *tcp);
void dco_tcp_buffers(const struct dco_tcp *tcp, uint32_t *send, uint32_t *receive);

/* Lets frames of up to `frame_max` bytes in, from DCO_TCP_PENDING_FRAME upward; less than before
 * changes nothing. 0 or -ENOMEM.
 *
 * One API thread at a time; the receive thread may be at work. It publishes a new tail buffer in
 * `reserved` (release) and is done. The next dco_tcp_receive takes it out with an exchange
 * (acquire), moves over what it has kept, and frees the old one; until then the old limit holds.
 * Whoever exchanges a pointer out owns it: a buffer that a second call replaces before it was taken
 * is freed there. So reserve before the peer can know its keys: then no data frame is too early. */
int dco_tcp_reserve(struct dco_tcp *tcp, uint32_t frame_max);

/* --- receive: the receive thread --- */

/* The limit for dco_tcpframe_next on what the last dco_tcp_receive brought. */
static inline uint32_t dco_tcp_frame_max(const struct dco_tcp *tcp)
{
    return tcp->tail->frame_max;
}

/* Receives once, behind what was kept, which goes to the front of the arena: it then starts with
 * the start of a frame. Bytes in the arena; or, with what was kept left as it is:
 * 0: the stream has ended, at a border of frames; -ENODATA: it has ended within one; -EAGAIN:
 * nothing there; -ECONNRESET and the like: the connection is dead. -ENOBUFS: `room` is not larger
 * than what was kept, which DCO_TCPFRAME_PREFIX + DCO_TCPFRAME_MAX bytes always are.
 *
 * An end is seen when everything before it was read. It is the end of one direction: the peer may
 * still read. */
ssize_t dco_tcp_receive(struct dco_tcp *tcp, uint8_t *arena, size_t room);

/* What was kept, at most DCO_TCPFRAME_PREFIX + dco_tcp_frame_max bytes, back into the arena: where
 * whole frames were left behind on purpose. */
size_t dco_tcp_resume(struct dco_tcp *tcp, uint8_t *arena);

/* How many whole frames are kept: such as nobody has a key for. */
uint32_t dco_tcp_kept(const struct dco_tcp *tcp);

/* Before anything is received: what another had received of a frame. With it frames of any size are
 * let in. 0, -ENOMEM, or -EINVAL: more than the start of a frame can be. */
int dco_tcp_load(struct dco_tcp *tcp, const uint8_t *tail, size_t size);

/* Keeps what dco_tcpframe_next left, if it left something, before the next dco_tcp_receive. 0, or -EMSGSIZE: it is more than the start of a frame can be, so that the caller has
 * left whole frames, and the stream is lost. */
int dco_tcp_keep(struct dco_tcp *tcp, const uint8_t *rest, size_t size);

#endif
