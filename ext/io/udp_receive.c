#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io/address.h"
#include "io/udp.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define INBOX_BYTES ((size_t)DCO_RECV_DATAGRAMS * DCO_RECV_BUFFER)

int dco_udp_inbox_init(struct dco_udp_inbox *inbox)
{
    memset(inbox, 0, sizeof *inbox);
    /* Untouched pages cost nothing: single datagrams only ever use the front of each buffer. */
    inbox->buffer =
        mmap(NULL, INBOX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (inbox->buffer == MAP_FAILED) {
        inbox->buffer = NULL;
        return -ENOMEM;
    }
    inbox->width = DCO_RECV_TRAINS;
    for (unsigned i = 0; i < DCO_RECV_DATAGRAMS; i++) {
        inbox->iov[i].iov_base = inbox->buffer + (size_t)i * DCO_RECV_BUFFER;
        inbox->iov[i].iov_len = DCO_RECV_BUFFER;
        inbox->message[i].msg_hdr.msg_iov = &inbox->iov[i];
        inbox->message[i].msg_hdr.msg_iovlen = 1;
        inbox->message[i].msg_hdr.msg_name = &inbox->name[i];
        inbox->message[i].msg_hdr.msg_control = inbox->control[i];
    }
    return 0;
}

void dco_udp_inbox_destroy(struct dco_udp_inbox *inbox)
{
    if (inbox->buffer)
        munmap(inbox->buffer, INBOX_BYTES);
    inbox->buffer = NULL;
}

/* Our address is the destination of what was received. */
static void take_ipv4(struct dco_udp_train *train, const struct cmsghdr *c, bool learn_source)
{
    if (c->cmsg_type == IP_TOS) {
        train->tos = *CMSG_DATA(c);
    } else if (c->cmsg_type == IP_PKTINFO && learn_source) {
        const struct in_pktinfo *info = (const void *)CMSG_DATA(c);
        train->local.family = AF_INET;
        memcpy(train->local.ip, &info->ipi_spec_dst, 4);
    }
}

/* A link-local one is given its scope. */
static void take_ipv6(struct dco_udp_train *train, const struct cmsghdr *c, bool learn_source)
{
    if (c->cmsg_type == IPV6_TCLASS) {
        int traffic_class;
        memcpy(&traffic_class, CMSG_DATA(c), sizeof traffic_class);
        train->tos = (uint8_t)traffic_class;
    } else if (c->cmsg_type == IPV6_PKTINFO && learn_source) {
        const struct in6_pktinfo *info = (const void *)CMSG_DATA(c);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr);
        train->local.family = mapped ? AF_INET : AF_INET6;
        memcpy(train->local.ip, info->ipi6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
        if (IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
            train->local.scope = info->ipi6_ifindex;
    }
}

static void take_segment(struct dco_udp_train *train, const struct cmsghdr *c)
{
    int segment;

    if (c->cmsg_type != UDP_GRO)
        return;
    memcpy(&segment, CMSG_DATA(c), sizeof segment);
    if (segment > 0)
        train->segment = (uint32_t)segment;
}

static void take_overflows(struct dco_udp *udp, const struct cmsghdr *c)
{
    uint32_t overflows;

    if (c->cmsg_type != SO_RXQ_OVFL)
        return;
    memcpy(&overflows, CMSG_DATA(c), sizeof overflows);
    dco_counter_set(&udp->overflows, overflows);
}

/* Ancillary data comes in any order and may be absent. */
static void take_ancillary(struct dco_udp *udp, struct dco_udp_train *train, struct msghdr *header)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        switch (c->cmsg_level) {
        case IPPROTO_IP: take_ipv4(train, c, udp->learn_source); break;
        case IPPROTO_IPV6: take_ipv6(train, c, udp->learn_source); break;
        case IPPROTO_UDP: take_segment(train, c); break;
        case SOL_SOCKET: take_overflows(udp, c); break;
        }
    }
}

static void take_train(struct dco_udp *udp, struct dco_udp_inbox *inbox, int i)
{
    struct dco_udp_train *train = &inbox->train[i];
    struct msghdr *header = &inbox->message[i].msg_hdr;

    train->data = inbox->iov[i].iov_base;
    train->size = inbox->message[i].msg_len;
    train->segment = train->size;
    train->tos = 0;
    train->truncated = header->msg_flags & MSG_TRUNC;
    dco_address_fold((struct sockaddr *)&inbox->name[i], &train->remote);
    if (udp->learn_source)
        memset(&train->local, 0, sizeof train->local);
    else
        train->local = udp->local;
    take_ancillary(udp, train, header);
    train->local.port = udp->local.port;
}

/* Trains fill the cache with a few messages; single datagrams are cheap to take in numbers. */
static unsigned next_width(const struct dco_udp_inbox *inbox, int received, size_t bytes)
{
    bool small = bytes <= (size_t)received * 4096;

    return (unsigned)received == inbox->width && small ? DCO_RECV_DATAGRAMS : DCO_RECV_TRAINS;
}

int dco_udp_receive(struct dco_udp *udp, struct dco_udp_inbox *inbox)
{
    bool batch = atomic_load_explicit(&udp->offloads, memory_order_relaxed) & DCO_OFFLOAD_UDP_BATCH;
    unsigned width = batch ? inbox->width : 1;
    size_t bytes = 0;
    int received;

    for (unsigned i = 0; i < width; i++) {
        inbox->message[i].msg_hdr.msg_namelen = sizeof inbox->name[i];
        inbox->message[i].msg_hdr.msg_controllen = DCO_UDP_CONTROL;
    }
    received = recvmmsg(udp->fd, inbox->message, width, MSG_DONTWAIT, NULL);
    if (received < 0)
        return -errno;
    for (int i = 0; i < received; i++) {
        take_train(udp, inbox, i);
        bytes += inbox->train[i].size;
    }
    inbox->width = next_width(inbox, received, bytes);
    return received;
}
