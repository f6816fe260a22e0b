/* Attaching to a connection and giving it back; receiving. */
#define _GNU_SOURCE
#include "io/tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "codec/tcpframe.h"
#include "io/address.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

static bool get_int(int fd, int level, int name, int *value)
{
    socklen_t size = sizeof *value;

    return !getsockopt(fd, level, name, value, &size);
}

int dco_tcp_check(int fd, bool listening, uint8_t *family, struct dco_address *local)
{
    struct sockaddr_in6 name = {0};
    socklen_t size = sizeof name;
    int domain, protocol, listens;

    if (!get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain))
        return -errno;
    if (domain != AF_INET && domain != AF_INET6)
        return -EAFNOSUPPORT;
    /* Also says no to MPTCP, whose subflows are not ours to read. */
    if (!get_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) || protocol != IPPROTO_TCP)
        return -EPROTONOSUPPORT;
    if (!get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens) || !listens == listening)
        return -EINVAL;
    if (getsockname(fd, (struct sockaddr *)&name, &size))
        return -errno;
    *family = (uint8_t)domain;
    dco_address_fold((struct sockaddr *)&name, local);
    return 0;
}

static int check_connection(struct dco_tcp *tcp)
{
    struct sockaddr_in6 name = {0};
    struct tcp_info info = {0};
    char upper[16];
    socklen_t size = sizeof info, name_size = sizeof name, upper_size = sizeof upper;
    int error = dco_tcp_check(tcp->fd, false, &tcp->family, &tcp->local);

    if (error)
        return error;
    if (getsockopt(tcp->fd, IPPROTO_TCP, TCP_INFO, &info, &size)
        || info.tcpi_state != TCP_ESTABLISHED)
        return -ENOTCONN;
    if (getpeername(tcp->fd, (struct sockaddr *)&name, &name_size))
        return -errno;
    if (!getsockopt(tcp->fd, IPPROTO_TCP, TCP_ULP, upper, &upper_size) && upper_size)
        return -EBUSY;
    dco_address_fold((struct sockaddr *)&name, &tcp->remote);
    return 0;
}

static bool set_option(struct dco_tcp *tcp, int level, int name, int value)
{
    return dco_option_set(tcp->fd, tcp->option, &tcp->options, level, name, value);
}

/* A size that is set ends the kernel's own tuning, which for TCP is the better choice. Restored
 * last, SO_BUF_LOCK (Linux 5.14) lets it begin again. */
static void set_buffers(struct dco_tcp *tcp, const struct dco_transport_config *config)
{
    if (!config->send_buffer && !config->receive_buffer)
        return;
    dco_option_save(tcp->fd, tcp->option, &tcp->options, SOL_SOCKET, SO_BUF_LOCK);
    if (config->send_buffer)
        dco_option_set_buffer(tcp->fd, tcp->option, &tcp->options, SO_SNDBUF, config->send_buffer);
    if (config->receive_buffer)
        dco_option_set_buffer(tcp->fd, tcp->option, &tcp->options, SO_RCVBUF,
                              config->receive_buffer);
}

static void set_options(struct dco_tcp *tcp)
{
    /* Batches are large already; a single packet must not wait for the acknowledgement of the
     * one before. */
    set_option(tcp, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(tcp, IPPROTO_TCP, TCP_NOTSENT_LOWAT, DCO_TCP_NOTSENT);
    /* With it an ICMP message, which anybody can forge, would end the connection. */
    set_option(tcp, IPPROTO_IP, IP_RECVERR, 0);
    if (tcp->family == AF_INET6)
        set_option(tcp, IPPROTO_IPV6, IPV6_RECVERR, 0);
    /* Readiness must mean one byte, whatever the caller waited for. */
    set_option(tcp, SOL_SOCKET, SO_RCVLOWAT, 1);
}

static struct dco_tcp_tail *new_tail(uint32_t frame_max)
{
    struct dco_tcp_tail *tail = malloc(sizeof *tail + DCO_TCPFRAME_PREFIX + frame_max);

    if (tail) {
        tail->frame_max = frame_max;
        tail->size = 0;
    }
    return tail;
}

int dco_tcp_attach(struct dco_tcp *tcp, int fd, const struct dco_transport_config *config)
{
    int error;

    memset(tcp, 0, sizeof *tcp);
    atomic_init(&tcp->reserved, NULL);
    tcp->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (tcp->fd < 0)
        return -errno;
    error = check_connection(tcp);
    if (!error) {
        tcp->tail = new_tail(DCO_TCP_PENDING_FRAME);
        error = tcp->tail ? 0 : -ENOMEM;
    }
    if (error) {
        close(tcp->fd);
        tcp->fd = -1;
        return error;
    }
    tcp->reserved_max = DCO_TCP_PENDING_FRAME;
    set_buffers(tcp, config);
    set_options(tcp);
    return 0;
}

void dco_tcp_detach(struct dco_tcp *tcp)
{
    if (tcp->fd < 0)
        return;
    dco_option_restore(tcp->fd, tcp->option, &tcp->options);
    close(tcp->fd);
    tcp->fd = -1;
    free(tcp->tail);
    tcp->tail = NULL;
    free(atomic_exchange_explicit(&tcp->reserved, NULL, memory_order_acquire));
}

void dco_tcp_buffers(const struct dco_tcp *tcp, uint32_t *send, uint32_t *receive)
{
    socklen_t size = sizeof(uint32_t);

    *send = *receive = 0;
    getsockopt(tcp->fd, SOL_SOCKET, SO_SNDBUF, send, &size);
    getsockopt(tcp->fd, SOL_SOCKET, SO_RCVBUF, receive, &size);
}

int dco_tcp_reserve(struct dco_tcp *tcp, uint32_t frame_max)
{
    struct dco_tcp_tail *tail;

    if (frame_max > DCO_TCPFRAME_MAX)
        frame_max = DCO_TCPFRAME_MAX;
    if (frame_max <= tcp->reserved_max)
        return 0;
    tail = new_tail(frame_max);
    if (!tail)
        return -ENOMEM;
    tcp->reserved_max = frame_max;
    free(atomic_exchange_explicit(&tcp->reserved, tail, memory_order_acq_rel));
    return 0;
}

static void take_reserved(struct dco_tcp *tcp)
{
    struct dco_tcp_tail *tail =
        atomic_exchange_explicit(&tcp->reserved, NULL, memory_order_acquire);

    if (!tail)
        return;
    free(tcp->tail);
    tcp->tail = tail;
}

size_t dco_tcp_resume(struct dco_tcp *tcp, uint8_t *arena)
{
    uint32_t kept = tcp->tail->size;

    memcpy(arena, tcp->tail->data, kept);
    tcp->tail->size = 0;
    if (atomic_load_explicit(&tcp->reserved, memory_order_relaxed))
        take_reserved(tcp);
    return kept;
}

ssize_t dco_tcp_receive(struct dco_tcp *tcp, uint8_t *arena, size_t room)
{
    uint32_t kept = tcp->tail->size;
    ssize_t received;

    if (room <= kept)
        return -ENOBUFS;
    do
        received = recv(tcp->fd, arena + kept, room - kept, MSG_DONTWAIT);
    while (received < 0 && errno == EINTR);
    if (received < 0)
        return -errno;
    if (!received)
        return kept ? -ENODATA : 0;
    memcpy(arena, tcp->tail->data, kept);
    tcp->tail->size = 0;
    /* Behind the read: what it brought was sent by a peer that may rely on a dco_tcp_reserve. */
    if (atomic_load_explicit(&tcp->reserved, memory_order_relaxed))
        take_reserved(tcp);
    return received + kept;
}

int dco_tcp_keep(struct dco_tcp *tcp, const uint8_t *rest, size_t size)
{
    struct dco_tcp_tail *tail = tcp->tail;

    if (size > DCO_TCPFRAME_PREFIX + tail->frame_max)
        return -EMSGSIZE;
    memcpy(tail->data, rest, size);
    tail->size = (uint32_t)size;
    return 0;
}

uint32_t dco_tcp_kept(const struct dco_tcp *tcp)
{
    struct dco_tcp_tail *tail = tcp->tail;
    uint32_t frames = 0, size;
    size_t offset = 0;
    uint8_t *frame;

    while (dco_tcpframe_next(tail->data, tail->size, &offset, DCO_TCPFRAME_MAX, &frame, &size) > 0)
        frames++;
    return frames;
}

int dco_tcp_load(struct dco_tcp *tcp, const uint8_t *tail, size_t size)
{
    struct dco_tcp_tail *loaded;

    if (size > DCO_TCPFRAME_PREFIX + DCO_TCPFRAME_MAX)
        return -EINVAL;
    loaded = new_tail(DCO_TCPFRAME_MAX);
    if (!loaded)
        return -ENOMEM;
    memcpy(loaded->data, tail, size);
    loaded->size = (uint32_t)size;
    free(tcp->tail);
    tcp->tail = loaded;
    tcp->reserved_max = DCO_TCPFRAME_MAX;
    return 0;
}
