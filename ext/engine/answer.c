#define _GNU_SOURCE
#include "engine/answer.h"

void dco_answer(struct dco_transmit *transmit, enum dco_icmp error, uint32_t mtu)
{
    static uint8_t no_offload[16];
    struct dco_tun *tun = &transmit->engine->tun;
    unsigned queue = transmit->worker->index < tun->queues ? transmit->worker->index : 0;
    uint8_t answer[DCO_ICMP_MAX], *packet;
    struct iovec iov[2] = {{no_offload, tun->vnet ? tun->vnet_size : 0}, {answer, 0}};
    uint32_t size;

    if (!dco_gso_next(&transmit->gso, &packet, &size))
        return;
    iov[1].iov_len = dco_icmp_error(answer, error, mtu, packet, size);
    if (!iov[1].iov_len
        || !dco_bucket_take(&transmit->icmp, DCO_ICMP_PER_S * 8, DCO_ICMP_BURST, transmit->now_ns,
                            1, 1))
        return;
    if (transmit->from_peer ? dco_transmit_reply(transmit, answer, (uint32_t)iov[1].iov_len)
                            : !dco_tun_write(tun, queue, iov, 2))
        dco_counter_add(&transmit->stats.icmp_errors_written, 1);
}
