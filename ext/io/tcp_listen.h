/* A listening TCP socket that somebody else made: connections out, one at a time.
 *
 * A wait for readiness does not make accept(2) safe: another holder of the socket may take the
 * connection in between, and the call then waits. accept4 has no MSG_DONTWAIT, a socket cannot be
 * opened again for file status flags of its own, and O_NONBLOCK would change under the caller's
 * feet. So the socket gets the shortest SO_RCVTIMEO that there is: a lost race costs one tick of
 * the kernel's clock instead of the thread, and detach restores the option like any other. The
 * rule stays that nobody else accepts while the socket is attached. */
#ifndef DCO_IO_TCP_LISTEN_H
#define DCO_IO_TCP_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

#include "dco.h"

struct dco_tcp_listener {
    int fd; /* our copy of the caller's descriptor */
    uint8_t family;
    struct dco_address local;
    struct timeval saved_timeout; /* SO_RCVTIMEO of the caller */
    bool changed;                 /* and it is to be put back; cleared by a child after fork */
};

/* Errors of dco_tcp_check; -EINVAL: it does not listen. */
int dco_tcp_listener_attach(struct dco_tcp_listener *listener, int fd);
/* Puts the option back and closes our copy. The socket goes on listening where others hold it. */
void dco_tcp_listener_detach(struct dco_tcp_listener *listener);

/* What an error of dco_tcp_accept asks of its caller. */
enum dco_tcp_accept {
    DCO_TCP_ACCEPT_LATER, /* nothing there: wait for readiness */
    /* That connection came to nothing: the next may do better. Bound the tries, as with successes. */
    DCO_TCP_ACCEPT_NEXT,
    /* Descriptors or memory ran out. The connection still waits and the socket stays readable:
     * stop watching it for a while instead of spinning. */
    DCO_TCP_ACCEPT_PAUSE,
    DCO_TCP_ACCEPT_DEAD, /* shut down, or no listening socket any more */
};

enum dco_tcp_accept dco_tcp_accept_class(int error);

/* The next connection: its descriptor (CLOEXEC, blocking), which is the caller's, and where it
 * comes from. 0, or a negative errno for dco_tcp_accept_class. */
int dco_tcp_accept(struct dco_tcp_listener *listener, int *fd, struct dco_address *remote);

#endif
