/* The inner side: a TUN interface, or any descriptor that gives one packet per read.
 *
 * Reads and writes never block and never change O_NONBLOCK of a descriptor that the caller
 * shares. With a virtio_net_hdr a packet may be a super-packet of up to 64 KiB. */
#ifndef DCO_IO_TUN_H
#define DCO_IO_TUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "bounds.h"

/* How a read is kept from blocking. */
enum dco_tun_reading {
    DCO_TUN_NOWAIT,    /* preadv2(RWF_NOWAIT): Linux 6.4 for TUN */
    DCO_TUN_SOCKET,    /* recv(MSG_DONTWAIT) */
    DCO_TUN_NONBLOCK,  /* our own descriptor, O_NONBLOCK */
    DCO_TUN_READINESS, /* one read per readiness */
};

struct dco_tun {
    int queue[DCO_WORKERS_MAX]; /* descriptors of ours, all of one interface */
    unsigned queues;
    bool owned;     /* we made the interface, or took over a persistent one by its name */
    bool existed;   /* the latter */
    bool interface; /* a TUN, not some other descriptor */
    bool vnet;      /* packets carry a virtio_net_hdr */
    uint8_t vnet_size;
    char name[16];             /* when it was opened: anybody may rename it */
    uint32_t ifindex;          /* when it was opened: a move to another namespace may change it */
    _Atomic int reading;       /* enum dco_tun_reading */
    _Atomic uint32_t offloads; /* DCO_OFFLOAD_TUN_* that may be used and work */
    uint32_t supported;        /* those that this descriptor could have */
};

/* Makes interface `name` (may hold %d) with `queues` queues in the network namespace `netns_fd`
 * (< 0: the caller's), or, with `existing`, takes over a persistent one. It goes with the descriptors
 * unless it is persistent. `offloads`: what may be used. Errors of open(2) and TUNSETIFF. */
int dco_tun_open(struct dco_tun *tun, const char *name, int netns_fd, bool existing,
                 uint32_t offloads, unsigned queues);

/* Uses copies of the caller's descriptors, queues of one interface. -EPROTOTYPE: a TAP; -EPROTO: a
 * TUN without IFF_NO_PI; -EBADFD: a TUN that is not attached to an interface; -EXDEV: queues of
 * several interfaces. */
int dco_tun_adopt(struct dco_tun *tun, const int *fds, unsigned queues, uint32_t offloads);

void dco_tun_close(struct dco_tun *tun);

/* What the interface is called now, and whether it is persistent. -ENODEV: gone. */
int dco_tun_look(const struct dco_tun *tun, char name[16], bool *persistent);

/* A new descriptor of the namespace where the interface is now: it may have been moved. -EPERM
 * without CAP_NET_ADMIN over that namespace, -ENODEV when the interface is gone. */
int dco_tun_namespace(const struct dco_tun *tun);

/* TUNSETPERSIST: the interface outlives its last descriptor. */
int dco_tun_set_persistent(const struct dco_tun *tun, bool on);

/* TUNSETOWNER: who may take a persistent interface over without CAP_NET_ADMIN. */
int dco_tun_set_owner(const struct dco_tun *tun, uint32_t user);

/* Switches TSO and USO while traffic flows. */
int dco_tun_set_offloads(struct dco_tun *tun, uint32_t offloads);

/* One packet, behind its offload header if there is one. Bytes read, -EAGAIN, -EBADFD when the
 * interface is gone, or another negative errno. */
ssize_t dco_tun_read(struct dco_tun *tun, unsigned queue, void *buffer, size_t size);

/* True when after this read the descriptor must be waited for, although more may be there. */
static inline bool dco_tun_reads_once(const struct dco_tun *tun)
{
    return atomic_load_explicit(&tun->reading, memory_order_relaxed) == DCO_TUN_READINESS;
}

/* One packet, offload header first if there is one. 0 or a negative errno. The kernel sends what it
 * has for a flow to the queue that last wrote to the flow. */
int dco_tun_write(struct dco_tun *tun, unsigned queue, const struct iovec *iov, int parts);

#endif
