/* The ladder of a send: segmentation offload in one sendmmsg; where the offload is refused, the
 * same sealed bytes one datagram at a time; where the socket buffer is full, wait a little. An
 * error that an earlier datagram caused (ICMP) is cleared and the same message tried again. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

#include "codec/wire.h"
#include "io/udp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static void put_control(struct msghdr *header, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)header->msg_control + header->msg_controllen);

    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    header->msg_controllen += CMSG_SPACE(size);
}

/* The source that the peer talks to. A socket bound to an address needs none. */
static void put_source(const struct dco_udp *udp, struct msghdr *header,
                       const struct dco_address *local)
{
    if (!udp->learn_source || !local->family)
        return;
    if (udp->family == AF_INET) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, local->ip, 4);
        put_control(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = local->scope};
        struct sockaddr_in6 mapped;
        dco_udp_sockaddr(udp, local, &mapped);
        info.ipi6_addr = mapped.sin6_addr;
        put_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
}

/* The cmsg is that of the destination, also on an IPv6 socket that sends IPv4. */
static void put_tos(const struct dco_udp *udp, struct msghdr *header,
                    const struct dco_udp_message *message)
{
    bool ipv4 = message->remote.family == AF_INET;
    uint8_t own = ipv4 ? udp->tos_ipv4 : udp->tos_ipv6;
    int tos = (own & ~message->tos_mask) | message->tos;

    if (tos == own)
        return;
    put_control(header, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &tos,
                sizeof tos);
}

/* A last datagram of one byte makes a train uneven. Of what a byte can be, peers throw this away
 * without a word: DATA_V1 with a key id that they know. The engine itself counts a runt. */
static void put_tail(struct msghdr *header, const struct dco_udp_message *message, uint8_t *tail)
{
    if (message->size != (uint32_t)message->packets * message->segment
        || message->size >= DCO_UDP4_PAYLOAD_MAX)
        return;
    *tail = (uint8_t)(DCO_WIRE_DATA_V1 << 3 | dco_wire_key_id(message->data));
    header->msg_iov[1].iov_base = tail;
    header->msg_iov[1].iov_len = 1;
    header->msg_iovlen = 2;
}

static void fill(const struct dco_udp *udp, struct dco_udp_outbox *outbox, unsigned i,
                 const struct dco_udp_message *message)
{
    struct msghdr *header = &outbox->header[i].msg_hdr;

    outbox->iov[i][0].iov_base = (void *)message->data;
    outbox->iov[i][0].iov_len = message->size;
    header->msg_iov = outbox->iov[i];
    header->msg_iovlen = 1;
    header->msg_name = &outbox->name[i];
    header->msg_namelen = dco_udp_sockaddr(udp, &message->remote, &outbox->name[i]);
    header->msg_control = outbox->control[i];
    header->msg_controllen = 0;
    header->msg_flags = 0;
    put_source(udp, header, &message->local);
    if (message->tos || udp->has_tos)
        put_tos(udp, header, message);
    if (message->packets > 1) {
        put_control(header, IPPROTO_UDP, UDP_SEGMENT, &message->segment, sizeof(uint16_t));
        if (udp->uneven_trains)
            put_tail(header, message, &outbox->tail[i]);
    }
    if (!header->msg_controllen)
        header->msg_control = NULL;
}

/* Errors that an ICMP message left on the socket, about whatever was sent before. */
static bool left_by_icmp(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EPROTO:
    case ECONNRESET:
    case ENONET: return true;
    }
    return false;
}

/* Of those, the ones that the routing table gives as well: trying on would not change it. */
static bool maybe_unroutable(int error)
{
    return error == ENETUNREACH || error == EHOSTUNREACH;
}

static bool wait_for_room(const struct dco_udp *udp, int stop_fd)
{
    struct pollfd fds[2] = {{.fd = udp->fd, .events = POLLOUT}, {.fd = stop_fd, .events = POLLIN}};

    return poll(fds, stop_fd >= 0 ? 2 : 1, DCO_SEND_WAIT_MS) > 0 && fds[0].revents & POLLOUT;
}

/* One message as it stands; a single error path for every caller. 0 or a positive errno. */
static int try_one(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                   const struct dco_udp_message *message, int stop_fd, struct dco_udp_tally *tally)
{
    unsigned retries = 0;
    bool waited = false, doubted = false;

    for (;;) {
        fill(udp, outbox, 0, message);
        tally->calls++;
        if (sendmsg(udp->fd, &outbox->header[0].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
            tally->messages++;
            tally->packets += message->packets;
            return 0;
        }
        if ((errno == EAGAIN || errno == ENOBUFS) && !waited) {
            waited = true;
            if (!wait_for_room(udp, stop_fd))
                return EAGAIN;
        } else if (left_by_icmp(errno)
                   && retries < (maybe_unroutable(errno) ? 1 : DCO_SEND_RETRIES)) {
            retries++;
            tally->retries++;
            tally->errors_queued = true;
        } else if (errno == EMSGSIZE && !doubted) {
            /* About this datagram, or an ICMP error about another: a second time it is the first. */
            doubted = true;
            tally->errors_queued = true;
        } else {
            return errno;
        }
    }
}

/* The address that the peer talked to may be gone from this host: let the kernel choose. */
static bool source_refused(const struct dco_udp *udp, const struct dco_udp_message *message,
                           int error)
{
    return udp->learn_source && message->local.family
           && (error == EINVAL || error == ENETUNREACH || error == EADDRNOTAVAIL
               || error == EHOSTUNREACH || error == ENODEV);
}

static int send_datagram(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                         struct dco_udp_message *message, int stop_fd, struct dco_udp_tally *tally)
{
    int error = try_one(udp, outbox, message, stop_fd, tally);

    if (error && source_refused(udp, message, error)) {
        message->local.family = 0;
        message->source_gone = true;
        tally->retries++;
        error = try_one(udp, outbox, message, stop_fd, tally);
    }
    return error;
}

/* The same sealed bytes, a datagram at a time. */
static void send_singly(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                        struct dco_udp_message *message, int stop_fd, struct dco_udp_tally *tally)
{
    struct dco_udp_message one = *message;
    uint32_t left = message->size;
    uint64_t bit = 1;

    one.packets = 1;
    for (; left; one.data += one.size, left -= one.size, bit <<= 1) {
        int error;
        one.size = left < message->segment ? left : message->segment;
        error = send_datagram(udp, outbox, &one, stop_fd, tally);
        if (error) {
            message->error = -error;
            message->failed_at |= bit;
        }
    }
    message->source_gone = one.source_gone;
}

static void drop_gso(struct dco_udp *udp, struct dco_udp_tally *tally)
{
    tally->fallbacks++;
    atomic_fetch_and(&udp->offloads, ~(uint32_t)DCO_OFFLOAD_UDP_GSO);
}

/* Over IPv6 kernels before 6.14 say EINVAL of what exceeds a path MTU that routers have told. */
static bool is_oversize(const struct dco_udp_message *message, int error)
{
    return error == EMSGSIZE
           || (error == EINVAL && message->remote.family == AF_INET6
               && message->segment > DCO_PATH_MTU_MIN_IPV6 - 48);
}

/* Segmentation was refused. EMSGSIZE: this datagram size on this route only. EIO: the device has
 * no transmit checksum, for good. EINVAL and the like: believed when single datagrams do pass. */
static void send_without_gso(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                             struct dco_udp_message *message, int error, int stop_fd,
                             struct dco_udp_tally *tally)
{
    bool oversize = is_oversize(message, error);

    if (oversize) {
        message->single = true;
        tally->oversize += message->packets;
    }
    send_singly(udp, outbox, message, stop_fd, tally);
    if (error == EIO || (!oversize && !message->failed_at))
        drop_gso(udp, tally);
}

static void give_up(struct dco_udp_message *message, int error, struct dco_udp_tally *tally)
{
    message->error = -error;
    message->failed_at = UINT64_MAX >> (DCO_GSO_SEGMENTS_MAX - message->packets);
    tally->dead |= error == EPIPE || error == EBADF || error == ENOTSOCK;
}

static void send_strictly(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                          struct dco_udp_message *message, int stop_fd, struct dco_udp_tally *tally)
{
    int error;

    if (message->packets > 1 && message->single) {
        tally->oversize += message->packets;
        send_singly(udp, outbox, message, stop_fd, tally);
        return;
    }
    error = send_datagram(udp, outbox, message, stop_fd, tally);
    if (!error)
        return;
    if (message->packets > 1
        && (error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP)) {
        send_without_gso(udp, outbox, message, error, stop_fd, tally);
        return;
    }
    give_up(message, error, tally);
}

static void send_with_care(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                           struct dco_udp_message *message, int stop_fd,
                           struct dco_udp_tally *tally)
{
    if (message->loose)
        dco_udp_loosen(udp, true);
    send_strictly(udp, outbox, message, stop_fd, tally);
    if (message->loose)
        dco_udp_loosen(udp, false);
}

/* How many messages from the front may go out in one call. */
static unsigned plain_run(const struct dco_udp *udp, const struct dco_udp_message *messages,
                          unsigned count)
{
    unsigned run = 0;

    if (!(atomic_load_explicit(&udp->offloads, memory_order_relaxed) & DCO_OFFLOAD_UDP_BATCH))
        return 0;
    while (run < count && !messages[run].loose
           && !(messages[run].single && messages[run].packets > 1))
        run++;
    return run;
}

void dco_udp_send(struct dco_udp *udp, struct dco_udp_outbox *outbox,
                  struct dco_udp_message *messages, unsigned count, int stop_fd,
                  struct dco_udp_tally *tally)
{
    while (count) {
        unsigned run = plain_run(udp, messages, count);
        int sent = 0;

        for (unsigned i = 0; i < run; i++)
            fill(udp, outbox, i, &messages[i]);
        if (run) {
            tally->calls++;
            sent = sendmmsg(udp->fd, outbox->header, run, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        for (int i = 0; i < sent; i++)
            tally->packets += messages[i].packets;
        if (sent > 0) {
            tally->messages += (unsigned)sent;
            messages += sent;
            count -= (unsigned)sent;
            /* What stopped a partial send shows in the next call. */
            continue;
        }
        /* EPERM is a firewall's verdict on this very datagram: sent again, it would meet the rule,
         * and be counted there, a second time. */
        if (sent < 0 && errno == EPERM)
            give_up(messages, EPERM, tally);
        else
            send_with_care(udp, outbox, messages, stop_fd, tally);
        messages++;
        count--;
    }
}

int dco_udp_send_one(struct dco_udp *udp, const void *data, size_t size,
                     const struct dco_address *remote, const struct dco_address *local)
{
    struct dco_udp_message message = {
        .data = data,
        .size = (uint32_t)size,
        .segment = (uint16_t)size,
        .packets = 1,
        .remote = *remote,
        .local = *local,
    };
    struct dco_udp_outbox outbox;
    struct dco_udp_tally tally = {0};
    int error;

    /* A handshake must come through before anything is known of the path. */
    dco_udp_loosen(udp, true);
    error = send_datagram(udp, &outbox, &message, -1, &tally);
    dco_udp_loosen(udp, false);
    return -error;
}
