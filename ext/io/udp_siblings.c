/* Several sockets for one port, and which of them a datagram goes to. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "codec/wire.h"
#include "io/netns.h"
#include "io/udp.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

/* What a sibling must have in common with the original: the kernel joins only sockets that agree in
 * device and V6ONLY, and a peer should not see which of them sends. */
static const struct {
    int level, name;
} copied[] = {
    {SOL_SOCKET, SO_REUSEADDR},   {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_PRIORITY},    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},         {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_TRANSPARENT}, {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_IPV6, IPV6_TCLASS},  {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
};

/* An option that cannot be read or is at its default is left alone: setting some needs a privilege. */
static int copy_options(int from, int to)
{
    char device[IFNAMSIZ] = "";
    socklen_t size = sizeof device;

    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        int wanted, is;
        socklen_t length = sizeof(int);
        if (getsockopt(from, copied[i].level, copied[i].name, &wanted, &length)
            || getsockopt(to, copied[i].level, copied[i].name, &is, &length) || wanted == is)
            continue;
        if (setsockopt(to, copied[i].level, copied[i].name, &wanted, sizeof wanted))
            return -errno;
    }
    if (!getsockopt(from, SOL_SOCKET, SO_BINDTODEVICE, device, &size) && *device
        && setsockopt(to, SOL_SOCKET, SO_BINDTODEVICE, device, size))
        return -errno;
    return 0;
}

static int open_sibling(void *argument)
{
    const struct dco_udp *udp = argument;
    struct sockaddr_in6 name;
    socklen_t size = sizeof name;
    int one = 1, error;
    int fd = socket(udp->family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);

    if (fd < 0)
        return -errno;
    error = copy_options(udp->fd, fd);
    if (!error
        && (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one)
            || getsockname(udp->fd, (struct sockaddr *)&name, &size)
            || bind(fd, (struct sockaddr *)&name, size)))
        error = -errno;
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

static bool get_cookie(int fd, uint64_t *cookie)
{
    socklen_t size = sizeof *cookie;

    return fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size);
}

/* Whether the socket is of the caller's namespace, as far as an unprivileged caller can tell. */
static bool is_here(const struct dco_udp *udp)
{
    uint64_t here = 0, there = 0;
    int probe = socket(udp->family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
    bool same = get_cookie(probe, &here) && get_cookie(udp->fd, &there) && here == there;

    if (probe >= 0)
        close(probe);
    return same;
}

static bool may_have_siblings(const struct dco_udp *udp)
{
    struct sockaddr_in6 name;
    socklen_t size = sizeof name;
    int reuseport = 1;

    if (!getpeername(udp->fd, (struct sockaddr *)&name, &size))
        return false; /* connected: it alone gets what its peer sends */
    size = sizeof reuseport;
    return !getsockopt(udp->fd, SOL_SOCKET, SO_REUSEPORT, &reuseport, &size) && !reuseport;
}

unsigned dco_udp_siblings(struct dco_udp *udp, unsigned count,
                          const struct dco_transport_config *config, uint32_t offloads)
{
    int netns = ioctl(udp->fd, SIOCGSKNS);
    unsigned sockets = 1;

    if (offloads & DCO_OFFLOAD_UDP_SIBLINGS && may_have_siblings(udp)
        && (netns >= 0 || is_here(udp)) && dco_udp_set_option(udp, SOL_SOCKET, SO_REUSEPORT, 1)) {
        while (sockets < count) {
            int fd = dco_netns_run(netns, open_sibling, udp);
            if (fd < 0 || dco_udp_take(&udp[sockets], fd, config, offloads))
                break;
            sockets++;
        }
    }
    if (netns >= 0)
        close(netns);
    if (sockets > 1)
        dco_udp_join(udp, sockets, offloads);
    return sockets;
}

void dco_udp_join(struct dco_udp *udp, unsigned sockets, uint32_t offloads)
{
    udp->group = sockets;
    for (unsigned i = 0; i < sockets; i++)
        udp[i].supported |= DCO_OFFLOAD_UDP_SIBLINGS | DCO_OFFLOAD_UDP_STEERING;
    for (unsigned i = 0; i < sockets; i++)
        dco_udp_set_offloads(&udp[i], offloads);
}

/* The first word of a data packet is opcode, key id and peer id. The group numbers its sockets in
 * the order in which they were bound, and shorter datagrams end the program with 0: the first. */
bool dco_udp_steer(struct dco_udp *udp, bool on)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xFFFFFF),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, udp->group),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    int none = 0;

    if (on)
        return !setsockopt(udp->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
    setsockopt(udp->fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &none, sizeof none);
    return true;
}
