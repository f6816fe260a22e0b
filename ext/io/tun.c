#define _GNU_SOURCE
#include "io/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include "dco.h"
#include "io/netns.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef TUNGETDEVNETNS /* Linux 5.2 */
#define TUNGETDEVNETNS _IO('T', 227)
#endif

/* What TUNSETVNETHDRSZ is on a fresh interface; a persistent one keeps what its last user set. */
#define VNET_HEADER_SIZE 10

/* The kernel default of 500 packets is 3 ms of small packets: less than a time slice. */
#define TUN_QUEUE_LENGTH 4096

#define OFFLOADS_READ (DCO_OFFLOAD_TUN_TSO | DCO_OFFLOAD_TUN_USO)
#define OFFLOADS_WRITE (DCO_OFFLOAD_TUN_TCP_GRO | DCO_OFFLOAD_TUN_UDP_GRO)

static unsigned feature_bits(uint32_t offloads)
{
    unsigned bits = TUN_F_CSUM;

    if (offloads & DCO_OFFLOAD_TUN_TSO)
        bits |= TUN_F_TSO4 | TUN_F_TSO6;
    if (offloads & DCO_OFFLOAD_TUN_USO)
        bits |= TUN_F_USO4 | TUN_F_USO6;
    return bits;
}

/* The kernel takes a set of offloads whole or not at all: the largest first. A kernel without USO
 * refuses UDP super-packets in writes, too. */
static void probe_offloads(struct dco_tun *tun, uint32_t allowed)
{
    tun->supported = 0;
    if (!tun->vnet) {
        atomic_store(&tun->offloads, 0);
        return;
    }
    if (!ioctl(tun->queue[0], TUNSETOFFLOAD, feature_bits(OFFLOADS_READ)))
        tun->supported = DCO_OFFLOAD_TUN_VNET | OFFLOADS_READ | OFFLOADS_WRITE;
    else if (!ioctl(tun->queue[0], TUNSETOFFLOAD, feature_bits(DCO_OFFLOAD_TUN_TSO)))
        tun->supported = DCO_OFFLOAD_TUN_VNET | DCO_OFFLOAD_TUN_TSO | DCO_OFFLOAD_TUN_TCP_GRO;
    else
        tun->supported = DCO_OFFLOAD_TUN_VNET;
    dco_tun_set_offloads(tun, allowed | DCO_OFFLOAD_TUN_VNET);
}

int dco_tun_set_offloads(struct dco_tun *tun, uint32_t offloads)
{
    uint32_t active = offloads & tun->supported;

    if (!tun->vnet)
        return 0;
    if (ioctl(tun->queue[0], TUNSETOFFLOAD, feature_bits(active)))
        return -errno;
    atomic_store(&tun->offloads, active | DCO_OFFLOAD_TUN_VNET);
    return 0;
}

struct opening {
    struct dco_tun *tun;
    const char *name;
    uint32_t offloads;
    unsigned queues;
    bool existing;
};

static int set_queue_length(const struct ifreq *named)
{
    struct ifreq request = *named;
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = 0;

    if (control < 0)
        return -errno;
    request.ifr_qlen = TUN_QUEUE_LENGTH;
    if (ioctl(control, SIOCSIFTXQLEN, &request))
        error = -errno;
    close(control);
    return error;
}

static int open_node(struct dco_tun *tun)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    tun->queue[tun->queues++] = fd;
    return fd;
}

/* Without IFF_TUN_EXCL an existing persistent interface of that name is taken over, which must be
 * asked for. */
static int take_interface(struct dco_tun *tun, struct ifreq *request, bool existing)
{
    short flags = request->ifr_flags;
    int size = VNET_HEADER_SIZE;
    int fd = open_node(tun);

    if (fd < 0)
        return fd;
    request->ifr_flags = (short)(flags | IFF_TUN_EXCL);
    if (!ioctl(fd, TUNSETIFF, request)) {
        request->ifr_flags = flags;
        return 0;
    }
    if (errno != EBUSY || !existing)
        return -errno;
    request->ifr_flags = flags;
    if (ioctl(fd, TUNSETIFF, request) || (tun->vnet && ioctl(fd, TUNSETVNETHDRSZ, &size)))
        return -errno;
    tun->existed = true;
    return 0;
}

/* Another queue of the interface that `request` names. */
static int add_queue(struct dco_tun *tun, struct ifreq *request)
{
    int fd = open_node(tun);

    if (fd < 0)
        return fd;
    return ioctl(fd, TUNSETIFF, request) ? -errno : 0;
}

static int create_interface(void *argument)
{
    struct opening *opening = argument;
    struct dco_tun *tun = opening->tun;
    struct ifreq request = {0};
    int error;

    strncpy(request.ifr_name, opening->name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (tun->vnet)
        request.ifr_flags |= IFF_VNET_HDR;
    if (opening->queues > 1)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    error = take_interface(tun, &request, opening->existing);
    while (!error && tun->queues < opening->queues)
        error = add_queue(tun, &request);
    if (error)
        return error;
    memcpy(tun->name, request.ifr_name, IFNAMSIZ);
    tun->ifindex = if_nametoindex(tun->name);
    set_queue_length(&request);
    return tun->ifindex ? 0 : -errno;
}

int dco_tun_open(struct dco_tun *tun, const char *name, int netns_fd, bool existing,
                 uint32_t offloads, unsigned queues)
{
    struct opening opening = {tun, name, offloads, queues, existing};
    int error;

    memset(tun, 0, sizeof *tun);
    tun->owned = tun->interface = true;
    tun->vnet = offloads & DCO_OFFLOAD_TUN_VNET;
    error = dco_netns_run(netns_fd, create_interface, &opening);
    if (error) {
        dco_tun_close(tun);
        return error;
    }
    tun->vnet_size = VNET_HEADER_SIZE;
    atomic_store(&tun->reading, DCO_TUN_NONBLOCK);
    probe_offloads(tun, offloads);
    return 0;
}

static int adopt_interface(struct dco_tun *tun, const struct ifreq *request)
{
    int size = 0;

    if ((request->ifr_flags & (IFF_TUN | IFF_TAP)) != IFF_TUN)
        return -EPROTOTYPE;
    tun->interface = true;
    tun->vnet = request->ifr_flags & IFF_VNET_HDR;
    if (tun->vnet && ioctl(tun->queue[0], TUNGETVNETHDRSZ, &size))
        return -errno;
    if (tun->vnet && (size < 10 || size > 16))
        return -EPROTO;
    tun->vnet_size = (uint8_t)size;
    memcpy(tun->name, request->ifr_name, IFNAMSIZ);
    tun->ifindex = if_nametoindex(tun->name); /* 0 when it lives in another namespace */
    return 0;
}

static int copy_queue(struct dco_tun *tun, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    if (copy < 0)
        return -errno;
    tun->queue[tun->queues++] = copy;
    return 0;
}

/* What the first descriptor is tells how all are used. */
static int adopt_first(struct dco_tun *tun)
{
    struct ifreq request = {0};
    struct stat status;

    if (fstat(tun->queue[0], &status))
        return -errno;
    atomic_store(&tun->reading, S_ISSOCK(status.st_mode) ? DCO_TUN_SOCKET : DCO_TUN_NOWAIT);
    if (S_ISSOCK(status.st_mode))
        return 0;
    if (!ioctl(tun->queue[0], TUNGETIFF, &request))
        return adopt_interface(tun, &request);
    if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 200))
        return -EBADFD;
    /* A file never waits and never ends: no packet descriptor. */
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? -EINVAL : 0;
}

static int adopt_further(struct dco_tun *tun, int fd)
{
    struct ifreq request = {0};

    if (!tun->interface || ioctl(fd, TUNGETIFF, &request)
        || strncmp(request.ifr_name, tun->name, IFNAMSIZ))
        return -EXDEV;
    return copy_queue(tun, fd);
}

int dco_tun_adopt(struct dco_tun *tun, const int *fds, unsigned queues, uint32_t offloads)
{
    int error;

    memset(tun, 0, sizeof *tun);
    error = copy_queue(tun, fds[0]);
    if (!error)
        error = adopt_first(tun);
    for (unsigned i = 1; i < queues && !error; i++)
        error = adopt_further(tun, fds[i]);
    if (error) {
        dco_tun_close(tun);
        return error;
    }
    probe_offloads(tun, offloads);
    return 0;
}

void dco_tun_close(struct dco_tun *tun)
{
    while (tun->queues)
        close(tun->queue[--tun->queues]);
}

/* The descriptor of an interface that was deleted answers EBADFD to everything. */
static int gone_or_errno(void)
{
    return errno == EBADFD ? -ENODEV : -errno;
}

int dco_tun_look(const struct dco_tun *tun, char name[16], bool *persistent)
{
    struct ifreq request = {0};

    if (ioctl(tun->queue[0], TUNGETIFF, &request))
        return gone_or_errno();
    memcpy(name, request.ifr_name, IFNAMSIZ);
    *persistent = request.ifr_flags & IFF_PERSIST;
    return 0;
}

int dco_tun_namespace(const struct dco_tun *tun)
{
    int fd = ioctl(tun->queue[0], TUNGETDEVNETNS);

    return fd < 0 ? gone_or_errno() : fd;
}

int dco_tun_set_persistent(const struct dco_tun *tun, bool on)
{
    return ioctl(tun->queue[0], TUNSETPERSIST, (unsigned long)on) ? gone_or_errno() : 0;
}

int dco_tun_set_owner(const struct dco_tun *tun, uint32_t user)
{
    return ioctl(tun->queue[0], TUNSETOWNER, (unsigned long)user) ? gone_or_errno() : 0;
}

ssize_t dco_tun_read(struct dco_tun *tun, unsigned queue, void *buffer, size_t size)
{
    int fd = tun->queue[queue];
    struct iovec iov = {buffer, size};
    ssize_t n;

    switch (atomic_load_explicit(&tun->reading, memory_order_relaxed)) {
    case DCO_TUN_NOWAIT:
        n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
        if (n < 0 && errno == EOPNOTSUPP) {
            atomic_store(&tun->reading, DCO_TUN_READINESS);
            return -EAGAIN;
        }
        break;
    case DCO_TUN_SOCKET: n = recv(fd, buffer, size, MSG_DONTWAIT); break;
    default: n = read(fd, buffer, size);
    }
    return n < 0 ? -errno : n;
}

int dco_tun_write(struct dco_tun *tun, unsigned queue, const struct iovec *iov, int parts)
{
    int fd = tun->queue[queue];
    ssize_t n;

    if (atomic_load_explicit(&tun->reading, memory_order_relaxed) == DCO_TUN_SOCKET) {
        struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)parts};
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        n = writev(fd, iov, parts);
    }
    return n < 0 ? -errno : 0;
}
