#define _GNU_SOURCE
#include "io/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include "dco.h"

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
    if (!ioctl(tun->fd, TUNSETOFFLOAD, feature_bits(OFFLOADS_READ)))
        tun->supported = DCO_OFFLOAD_TUN_VNET | OFFLOADS_READ | OFFLOADS_WRITE;
    else if (!ioctl(tun->fd, TUNSETOFFLOAD, feature_bits(DCO_OFFLOAD_TUN_TSO)))
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
    if (ioctl(tun->fd, TUNSETOFFLOAD, feature_bits(active)))
        return -errno;
    atomic_store(&tun->offloads, active | DCO_OFFLOAD_TUN_VNET);
    return 0;
}

struct opening {
    struct dco_tun *tun;
    const char *name;
    int netns_fd;
    bool existing;
    int error;
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

/* Without IFF_TUN_EXCL an existing persistent interface of that name is taken over, which must be
 * asked for. */
static int take_interface(struct dco_tun *tun, struct ifreq *request, bool existing)
{
    short flags = request->ifr_flags;
    int size = VNET_HEADER_SIZE;

    request->ifr_flags = (short)(flags | IFF_TUN_EXCL);
    if (!ioctl(tun->fd, TUNSETIFF, request))
        return 0;
    if (errno != EBUSY || !existing)
        return -errno;
    request->ifr_flags = flags;
    if (ioctl(tun->fd, TUNSETIFF, request) || (tun->vnet && ioctl(tun->fd, TUNSETVNETHDRSZ, &size)))
        return -errno;
    tun->existed = true;
    return 0;
}

static int create_interface(struct dco_tun *tun, const struct opening *opening)
{
    struct ifreq request = {0};
    int error;

    tun->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tun->fd < 0)
        return -errno;
    strncpy(request.ifr_name, opening->name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (tun->vnet)
        request.ifr_flags |= IFF_VNET_HDR;
    error = take_interface(tun, &request, opening->existing);
    if (error)
        return error;
    memcpy(tun->name, request.ifr_name, IFNAMSIZ);
    tun->ifindex = if_nametoindex(tun->name);
    set_queue_length(&request);
    return tun->ifindex ? 0 : -errno;
}

/* Entering a namespace changes the thread, so it is done on a thread that then ends. */
static void *open_thread(void *argument)
{
    struct opening *opening = argument;

    if (opening->netns_fd >= 0 && setns(opening->netns_fd, CLONE_NEWNET))
        opening->error = -errno;
    else
        opening->error = create_interface(opening->tun, opening);
    return NULL;
}

int dco_tun_open(struct dco_tun *tun, const char *name, int netns_fd, bool existing,
                 uint32_t offloads)
{
    struct opening opening = {tun, name, netns_fd, existing, 0};
    pthread_t thread;
    int error;

    memset(tun, 0, sizeof *tun);
    tun->fd = -1;
    tun->owned = tun->interface = true;
    tun->vnet = offloads & DCO_OFFLOAD_TUN_VNET;
    error = pthread_create(&thread, NULL, open_thread, &opening);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    if (opening.error) {
        dco_tun_close(tun);
        return opening.error;
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
    if (!(request->ifr_flags & IFF_NO_PI))
        return -EPROTO;
    tun->interface = true;
    tun->vnet = request->ifr_flags & IFF_VNET_HDR;
    if (tun->vnet && ioctl(tun->fd, TUNGETVNETHDRSZ, &size))
        return -errno;
    if (tun->vnet && (size < 10 || size > 16))
        return -EPROTO;
    tun->vnet_size = (uint8_t)size;
    memcpy(tun->name, request->ifr_name, IFNAMSIZ);
    tun->ifindex = if_nametoindex(tun->name); /* 0 when it lives in another namespace */
    return 0;
}

int dco_tun_adopt(struct dco_tun *tun, int fd, uint32_t offloads)
{
    struct ifreq request = {0};
    struct stat status;
    int error = 0;

    memset(tun, 0, sizeof *tun);
    tun->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (tun->fd < 0)
        return -errno;
    if (fstat(tun->fd, &status))
        error = -errno;
    else if (S_ISSOCK(status.st_mode))
        atomic_store(&tun->reading, DCO_TUN_SOCKET);
    else if (!ioctl(tun->fd, TUNGETIFF, &request))
        error = adopt_interface(tun, &request);
    else if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 200))
        error = -EBADFD;
    else if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        error = -EINVAL; /* never waits, never ends: no packet descriptor */

    if (error) {
        dco_tun_close(tun);
        return error;
    }
    if (!S_ISSOCK(status.st_mode))
        atomic_store(&tun->reading, DCO_TUN_NOWAIT);
    probe_offloads(tun, offloads);
    return 0;
}

void dco_tun_close(struct dco_tun *tun)
{
    if (tun->fd >= 0)
        close(tun->fd);
    tun->fd = -1;
}

/* The descriptor of an interface that was deleted answers EBADFD to everything. */
static int gone_or_errno(void)
{
    return errno == EBADFD ? -ENODEV : -errno;
}

int dco_tun_look(const struct dco_tun *tun, char name[16], bool *persistent)
{
    struct ifreq request = {0};

    if (ioctl(tun->fd, TUNGETIFF, &request))
        return gone_or_errno();
    memcpy(name, request.ifr_name, IFNAMSIZ);
    *persistent = request.ifr_flags & IFF_PERSIST;
    return 0;
}

int dco_tun_namespace(const struct dco_tun *tun)
{
    int fd = ioctl(tun->fd, TUNGETDEVNETNS);

    return fd < 0 ? gone_or_errno() : fd;
}

int dco_tun_set_persistent(const struct dco_tun *tun, bool on)
{
    return ioctl(tun->fd, TUNSETPERSIST, (unsigned long)on) ? gone_or_errno() : 0;
}

int dco_tun_set_owner(const struct dco_tun *tun, uint32_t user)
{
    return ioctl(tun->fd, TUNSETOWNER, (unsigned long)user) ? gone_or_errno() : 0;
}

ssize_t dco_tun_read(struct dco_tun *tun, void *buffer, size_t size)
{
    struct iovec iov = {buffer, size};
    ssize_t n;

    switch (atomic_load_explicit(&tun->reading, memory_order_relaxed)) {
    case DCO_TUN_NOWAIT:
        n = preadv2(tun->fd, &iov, 1, -1, RWF_NOWAIT);
        if (n < 0 && errno == EOPNOTSUPP) {
            atomic_store(&tun->reading, DCO_TUN_READINESS);
            return -EAGAIN;
        }
        break;
    case DCO_TUN_SOCKET: n = recv(tun->fd, buffer, size, MSG_DONTWAIT); break;
    default: n = read(tun->fd, buffer, size);
    }
    return n < 0 ? -errno : n;
}

int dco_tun_write(struct dco_tun *tun, const struct iovec *iov, int parts)
{
    ssize_t n;

    if (atomic_load_explicit(&tun->reading, memory_order_relaxed) == DCO_TUN_SOCKET) {
        struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)parts};
        n = sendmsg(tun->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        n = writev(tun->fd, iov, parts);
    }
    return n < 0 ? -errno : 0;
}
