/* Attaching to a socket and giving it back; the error queue. */
#define _GNU_SOURCE
#include "io/udp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <stdio.h>

#include "io/address.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef IP_PMTUDISC_OMIT
#define IP_PMTUDISC_OMIT 5
#endif

bool dco_udp_set_option(struct dco_udp *udp, int level, int name, int value)
{
    return dco_option_set(udp->fd, udp->option, &udp->options, level, name, value);
}

/* A size that was set also locks the buffer against what the kernel would do to it. The lock is
 * saved first, hence put back last (Linux 5.14; before, nobody can tell). */
static void set_buffers(struct dco_udp *udp, const struct dco_transport_config *config)
{
    uint32_t send = config->send_buffer ? config->send_buffer : DCO_SOCKET_BUFFER;
    uint32_t receive = config->receive_buffer ? config->receive_buffer : DCO_SOCKET_BUFFER;

    dco_option_save(udp->fd, udp->option, &udp->options, SOL_SOCKET, SO_BUF_LOCK);
    dco_option_set_buffer(udp->fd, udp->option, &udp->options, SO_SNDBUF, send);
    dco_option_set_buffer(udp->fd, udp->option, &udp->options, SO_RCVBUF, receive);
}

/* By default as the kernel driver: DF is clear, so routers fragment over IPv4, and forged ICMP cannot
 * shrink what is sent. Over IPv6 only this host can fragment, hence listens to routers: the least
 * that they can ask for is 1280 bytes. With `df` nobody fragments, and the path MTU is learned from
 * the error queue. */
static int discovery_ipv4(bool df)
{
    return df ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT;
}

static int discovery_ipv6(bool df)
{
    return df ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT;
}

static void set_path_mtu(struct dco_udp *udp)
{
    dco_udp_set_option(udp, IPPROTO_IP, IP_MTU_DISCOVER, discovery_ipv4(udp->df));
    if (udp->family == AF_INET6)
        dco_udp_set_option(udp, IPPROTO_IPV6, IPV6_MTU_DISCOVER, discovery_ipv6(udp->df));
}

/* Threads that send by one socket do it side by side: the first sets the option, the last one puts it
 * back. */
void dco_udp_loosen(struct dco_udp *udp, bool on)
{
    int ipv4 = discovery_ipv4(!on), ipv6 = discovery_ipv6(!on);

    if (!udp->df)
        return;
    pthread_mutex_lock(&udp->loosening);
    udp->loose += on ? 1 : -1u;
    if (udp->loose == on) {
        setsockopt(udp->fd, IPPROTO_IP, IP_MTU_DISCOVER, &ipv4, sizeof ipv4);
        if (udp->family == AF_INET6)
            setsockopt(udp->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &ipv6, sizeof ipv6);
    }
    pthread_mutex_unlock(&udp->loosening);
}

static void set_ancillary(struct dco_udp *udp)
{
    dco_udp_set_option(udp, SOL_SOCKET, SO_RXQ_OVFL, 1);
    /* ICMP errors come with the address they are about, instead of hitting an innocent send. */
    dco_udp_set_option(udp, IPPROTO_IP, IP_RECVERR, 1);
    if (udp->family == AF_INET6)
        dco_udp_set_option(udp, IPPROTO_IPV6, IPV6_RECVERR, 1);
    /* An IPv6 socket gets IPv4 too, each with the header that it came with. */
    dco_udp_set_option(udp, IPPROTO_IP, IP_RECVTOS, 1);
    if (udp->family == AF_INET6)
        dco_udp_set_option(udp, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    if (udp->learn_source && udp->family == AF_INET)
        dco_udp_set_option(udp, IPPROTO_IP, IP_PKTINFO, 1);
    if (udp->learn_source && udp->family == AF_INET6)
        dco_udp_set_option(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* What the owner of the socket has chosen. */
static void read_tos(struct dco_udp *udp)
{
    int value;
    socklen_t size = sizeof value;

    if (!getsockopt(udp->fd, IPPROTO_IP, IP_TOS, &value, &size))
        udp->tos_ipv4 = (uint8_t)value;
    size = sizeof value;
    if (udp->family == AF_INET6 && !getsockopt(udp->fd, IPPROTO_IPV6, IPV6_TCLASS, &value, &size))
        udp->tos_ipv6 = (uint8_t)value;
    udp->has_tos = udp->tos_ipv4 || udp->tos_ipv6;
}

/* UDP_GRO of kernels before 5.12 loses datagrams in some forwarding set-ups. */
static bool kernel_has_sound_gro(void)
{
    struct utsname name;
    int major = 0, minor = 0;

    return !uname(&name) && sscanf(name.release, "%d.%d", &major, &minor) == 2
           && (major > 5 || (major == 5 && minor >= 12));
}

/* The UDP header of the last segment is wrong on devices that do a part of the segmentation, as
 * virtio_net does: Linux 7.0 (b10b446), mended in 7.1.5. No call can tell whether the way of a
 * datagram leads over such a device. */
bool dco_udp_spoils_trains(const char *release)
{
    unsigned major = 0, minor = 0, patch = 0;

    sscanf(release, "%u.%u.%u", &major, &minor, &patch);
    return major == 7 && (minor == 0 || (minor == 1 && patch < 5));
}

/* A query tells whether the kernel knows segmentation; whether the path does, only a send tells. */
static void probe_offloads(struct dco_udp *udp)
{
    struct utsname name;
    int value;
    socklen_t size = sizeof value;

    udp->supported = DCO_OFFLOAD_UDP_BATCH;
    udp->uneven_trains = !uname(&name) && dco_udp_spoils_trains(name.release);
    if (!getsockopt(udp->fd, IPPROTO_UDP, UDP_SEGMENT, &value, &size))
        udp->supported |= DCO_OFFLOAD_UDP_GSO;
    if (kernel_has_sound_gro() && dco_udp_set_option(udp, IPPROTO_UDP, UDP_GRO, 0))
        udp->supported |= DCO_OFFLOAD_UDP_GRO;
}

int dco_udp_set_offloads(struct dco_udp *udp, uint32_t offloads)
{
    uint32_t active = offloads & udp->supported;
    int gro = !!(active & DCO_OFFLOAD_UDP_GRO);

    if (udp->supported & DCO_OFFLOAD_UDP_GRO
        && setsockopt(udp->fd, IPPROTO_UDP, UDP_GRO, &gro, sizeof gro))
        return -errno;
    if (udp->group)
        active &= ~(dco_udp_steer(udp, offloads & DCO_OFFLOAD_UDP_STEERING)
                        ? 0u
                        : (uint32_t)DCO_OFFLOAD_UDP_STEERING);
    atomic_store(&udp->offloads, active);
    return 0;
}

static int check_socket(struct dco_udp *udp)
{
    struct sockaddr_in6 name;
    socklen_t size = sizeof name, int_size = sizeof(int);
    int protocol = 0, type = 0;

    if (getsockopt(udp->fd, SOL_SOCKET, SO_TYPE, &type, &int_size)
        || getsockname(udp->fd, (struct sockaddr *)&name, &size))
        return -errno;
    int_size = sizeof(int);
    if (name.sin6_family != AF_INET && name.sin6_family != AF_INET6)
        return -EAFNOSUPPORT;
    if (type != SOCK_DGRAM || getsockopt(udp->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &int_size)
        || protocol != IPPROTO_UDP)
        return -EPROTONOSUPPORT;
    if (!name.sin6_port)
        return -EDESTADDRREQ;
    udp->family = (uint8_t)name.sin6_family;
    dco_address_fold((struct sockaddr *)&name, &udp->local);
    return 0;
}

int dco_udp_attach(struct dco_udp *udp, int fd, const struct dco_transport_config *config,
                   uint32_t offloads)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    return copy < 0 ? -errno : dco_udp_take(udp, copy, config, offloads);
}

int dco_udp_take(struct dco_udp *udp, int fd, const struct dco_transport_config *config,
                 uint32_t offloads)
{
    static const uint8_t any[16];
    int error;

    memset(udp, 0, sizeof *udp);
    pthread_mutex_init(&udp->loosening, NULL);
    udp->fd = fd;
    error = check_socket(udp);
    if (error) {
        close(udp->fd);
        return error;
    }
    udp->df = config->df;
    udp->learn_source = !memcmp(udp->local.ip, any, sizeof any);
    set_buffers(udp, config);
    set_path_mtu(udp);
    read_tos(udp);
    set_ancillary(udp);
    probe_offloads(udp);
    error = dco_udp_set_offloads(udp, offloads);
    if (error)
        dco_udp_detach(udp);
    return error;
}

void dco_udp_detach(struct dco_udp *udp)
{
    if (udp->fd < 0)
        return;
    if (udp->group)
        dco_udp_steer(udp, false);
    dco_option_restore(udp->fd, udp->option, &udp->options);
    close(udp->fd);
    udp->fd = -1;
}

void dco_udp_buffers(const struct dco_udp *udp, uint32_t *send, uint32_t *receive)
{
    socklen_t size = sizeof(uint32_t);

    *send = *receive = 0;
    getsockopt(udp->fd, SOL_SOCKET, SO_SNDBUF, send, &size);
    getsockopt(udp->fd, SOL_SOCKET, SO_RCVBUF, receive, &size);
}

/* An IPv6 socket wants IPv4 addresses mapped. */
socklen_t dco_udp_sockaddr(const struct dco_udp *udp, const struct dco_address *address,
                           struct sockaddr_in6 *storage)
{
    memset(storage, 0, sizeof *storage);
    if (udp->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)storage;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return sizeof *in;
    }
    storage->sin6_family = AF_INET6;
    storage->sin6_port = htons(address->port);
    if (address->family == AF_INET) {
        memset(storage->sin6_addr.s6_addr + 10, 0xFF, 2);
        memcpy(storage->sin6_addr.s6_addr + 12, address->ip, 4);
    } else {
        memcpy(&storage->sin6_addr, address->ip, 16);
        storage->sin6_scope_id = address->scope;
    }
    return sizeof *storage;
}

bool dco_udp_next_error(struct dco_udp *udp, struct dco_udp_error *error)
{
    struct sockaddr_in6 name = {0};
    _Alignas(8) uint8_t control[256];
    struct msghdr message = {
        .msg_name = &name,
        .msg_namelen = sizeof name,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    int pending;
    socklen_t size = sizeof pending;

    memset(error, 0, sizeof *error);
    if (recvmsg(udp->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
        getsockopt(udp->fd, SOL_SOCKET, SO_ERROR, &pending, &size);
        return false;
    }
    dco_address_fold((struct sockaddr *)&name, &error->remote);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR)
            || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
            const struct sock_extended_err *extended = (const void *)CMSG_DATA(c);
            error->error = (int)extended->ee_errno;
            error->mtu = extended->ee_errno == EMSGSIZE ? extended->ee_info : 0;
        }
    }
    return true;
}
