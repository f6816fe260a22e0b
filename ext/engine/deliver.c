#define _GNU_SOURCE
#include "engine/deliver.h"

#include <errno.h>
#include <poll.h>

#include "engine/features.h"

static enum dco_drop drop_of_error(int error)
{
    switch (-error) {
    case EIO: /* what a TUN answers while its interface is down */
    case EBADFD:
    case EBADF:
    case EPIPE:
    case ECONNRESET: return DCO_DROP_RX_TUN_DOWN;
    case EAGAIN:
    case ENOBUFS: return DCO_DROP_RX_TUN_BACKLOG;
    default: return DCO_DROP_RX_TUN_WRITE;
    }
}

/* A TUN never fills; a packet socket does, and its reader gets a moment. */
static int write_patiently(struct dco_receive *receive, const struct iovec *iov, int parts)
{
    struct dco_tun *tun = &receive->engine->tun;
    unsigned queue = receive->worker->index < tun->queues ? receive->worker->index : 0;
    int error = dco_tun_write(tun, queue, iov, parts);

    if (error == -EAGAIN && !receive->impatient) {
        struct pollfd fds[2] = {{.fd = tun->queue[queue], .events = POLLOUT},
                                {.fd = receive->worker->stop_fd, .events = POLLIN}};
        if (poll(fds, 2, DCO_SEND_WAIT_MS) > 0 && fds[0].revents & POLLOUT)
            error = dco_tun_write(tun, queue, iov, parts);
        receive->impatient = error == -EAGAIN;
    }
    dco_counter_add(&receive->stats.tun_writes, 1);
    return error;
}

static void delivered(struct dco_receive *receive, struct dco_peer *peer, uint32_t bytes,
                      uint32_t packets)
{
    dco_counter_add(&receive->stats.tun_write_packets, packets);
    dco_counter_add(&peer->vpn_rx_bytes, bytes);
    dco_counter_add(&peer->vpn_rx_packets, packets);
    if (dco_features(peer) & DCO_PEER_FEATURE_LIMITS)
        dco_features_count(receive->engine, peer, receive->now_ns);
}

/* The kernel refused the super-packet: its packets go one by one, and when they pass it was the
 * offload, which is then left alone (Linux 6.6.44 refused tails shorter than the segment). */
static void write_singly(struct dco_receive *receive, struct dco_gro_item *item)
{
    static uint8_t no_offload[16];
    struct dco_tun *tun = &receive->engine->tun;
    bool passed = true;

    dco_gro_undo(item);
    for (uint32_t i = 0; i < item->packets; i++) {
        struct iovec iov[2] = {{no_offload, tun->vnet_size}, {item->part[i], item->part_size[i]}};
        int error = write_patiently(receive, iov, 2);
        if (error) {
            passed = false;
            dco_receive_lose_later(receive, item->owner, drop_of_error(error), item->part[i],
                                   item->part_size[i], 1);
        } else {
            delivered(receive, item->owner, item->part_size[i], 1);
        }
    }
    if (passed) {
        dco_counter_add(&receive->stats.gro_fallbacks, 1);
        atomic_fetch_and(&tun->offloads,
                         ~(uint32_t)(item->protocol == IPPROTO_TCP ? DCO_OFFLOAD_TUN_TCP_GRO
                                                                   : DCO_OFFLOAD_TUN_UDP_GRO));
    }
}

static void write_item(struct dco_receive *receive, struct dco_gro_item *item)
{
    struct dco_tun *tun = &receive->engine->tun;
    struct iovec iov[DCO_GRO_SEGMENTS + 1];
    int parts = dco_gro_finish(item, tun->vnet, iov);
    int error;

    if (tun->vnet)
        iov[0].iov_len = tun->vnet_size;
    error = write_patiently(receive, iov, parts);
    if (!error)
        delivered(receive, item->owner, item->bytes, item->packets);
    else if (error == -EINVAL && item->packets > 1)
        write_singly(receive, item);
    else
        dco_receive_lose_later(receive, item->owner, drop_of_error(error), item->part[0],
                               item->part_size[0], item->packets);
}

void dco_deliver_reset(struct dco_receive *receive)
{
    uint32_t offloads = atomic_load_explicit(&receive->engine->tun.offloads, memory_order_relaxed);

    dco_gro_reset(&receive->gro, offloads & DCO_OFFLOAD_TUN_TCP_GRO,
                  offloads & DCO_OFFLOAD_TUN_UDP_GRO);
}

void dco_deliver_flush(struct dco_receive *receive)
{
    for (uint32_t i = 0; i < receive->gro.count; i++)
        write_item(receive, &receive->gro.item[i]);
    dco_deliver_reset(receive);
}

void dco_deliver_add(struct dco_receive *receive, struct dco_peer *peer, uint8_t *packet,
                     uint32_t size)
{
    if (!dco_gro_add(&receive->gro, packet, size, peer)) {
        dco_deliver_flush(receive);
        dco_gro_add(&receive->gro, packet, size, peer);
    }
}
