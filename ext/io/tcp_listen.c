#define _GNU_SOURCE
#include "io/tcp_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/address.h"
#include "io/tcp.h"

int dco_tcp_listener_attach(struct dco_tcp_listener *listener, int fd)
{
    static const struct timeval shortest = {.tv_usec = 1}; /* the kernel rounds up to a tick */
    socklen_t size = sizeof listener->saved_timeout;
    int error;

    memset(listener, 0, sizeof *listener);
    listener->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (listener->fd < 0)
        return -errno;
    error = dco_tcp_check(listener->fd, true, &listener->family, &listener->local);
    if (!error
        && (getsockopt(listener->fd, SOL_SOCKET, SO_RCVTIMEO, &listener->saved_timeout, &size)
            || setsockopt(listener->fd, SOL_SOCKET, SO_RCVTIMEO, &shortest, sizeof shortest)))
        error = -errno;
    if (error) {
        close(listener->fd);
        listener->fd = -1;
        return error;
    }
    listener->changed = true;
    return 0;
}

static void restore_timeout(const struct dco_tcp_listener *listener, int fd)
{
    const struct timeval *saved = &listener->saved_timeout;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, saved, sizeof *saved))
        return; /* cannot be: it is a value that the kernel gave */
}

void dco_tcp_listener_detach(struct dco_tcp_listener *listener)
{
    if (listener->fd < 0)
        return;
    if (listener->changed)
        restore_timeout(listener, listener->fd);
    close(listener->fd);
    listener->fd = -1;
}

/* accept(2) hands out what already happened to the new connection, as if it were its own error. */
enum dco_tcp_accept dco_tcp_accept_class(int error)
{
    switch (-error) {
    case EAGAIN: return DCO_TCP_ACCEPT_LATER;
    case EINTR:
    case ECONNABORTED:
    case ECONNRESET:
    case ETIMEDOUT:
    case EPERM: /* a firewall's rule */
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET: return DCO_TCP_ACCEPT_NEXT;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM: return DCO_TCP_ACCEPT_PAUSE;
    }
    return DCO_TCP_ACCEPT_DEAD;
}

int dco_tcp_accept(struct dco_tcp_listener *listener, int *fd, struct dco_address *remote)
{
    struct sockaddr_in6 name = {0};
    socklen_t size = sizeof name;
    int accepted = accept4(listener->fd, (struct sockaddr *)&name, &size, SOCK_CLOEXEC);

    if (accepted < 0)
        return -errno;
    restore_timeout(listener, accepted); /* it has the listener's */
    dco_address_fold((struct sockaddr *)&name, remote);
    *fd = accepted;
    return 0;
}
