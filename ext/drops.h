/* Every reason for which a packet is dropped: enumerator, name in statistics, meaning.
 * The table is the only place that lists them; counters, Python and metrics follow it. */
#ifndef DCO_DROPS_H
#define DCO_DROPS_H

#define DCO_DROPS(X)                                                                               \
    /* transmit: inner packet to wire */                                                           \
    X(TX_MALFORMED, tx_malformed, "inner packet is no well-formed IPv4 or IPv6")                   \
    X(TX_GSO, tx_gso, "super-packet whose offload header does not fit it")                         \
    X(TX_NO_PEER, tx_no_peer, "no peer owns the destination address")                              \
    X(TX_NO_KEY, tx_no_key, "peer has no primary key")                                             \
    X(TX_GROUP_LIMIT, tx_group_limit, "more copies of multicast and broadcast than may be")        \
    X(TX_RATE_LIMIT, tx_rate_limit, "peer is to get no more than its rate limit")                  \
    X(TX_KEY_EXHAUSTED, tx_key_exhausted, "packet ids or the usage limit of the key are used up")  \
    X(TX_ENCRYPT, tx_encrypt, "cipher failed to seal")                                             \
    X(TX_NO_TRANSPORT, tx_no_transport, "peer has no transport, endpoint or route")                \
    X(TX_TOO_BIG, tx_too_big, "datagram exceeds what the transport carries")                       \
    X(TX_BACKLOG, tx_backlog, "socket buffer stayed full")                                         \
    X(TX_SEND, tx_send, "socket refused the datagram")                                             \
    X(TX_CONTROL, tx_control, "control packet for a connection that died or has no room")          \
    X(TX_HANDOFF_FULL, tx_handoff_full, "worker of the peer is too busy to take the packet")       \
    /* receive: wire to inner packet */                                                            \
    X(RX_RUNT, rx_runt, "datagram shorter than its header")                                        \
    X(RX_TRUNCATED, rx_truncated, "datagram larger than the receive buffer")                       \
    X(RX_STREAM, rx_stream, "TCP frame of length zero, or longer than it may be")                  \
    X(RX_DATA_V1, rx_data_v1, "DATA_V1 packet, which names no peer")                               \
    X(RX_UNKNOWN_PEER, rx_unknown_peer, "no peer with the id or address of the packet")            \
    X(RX_UNKNOWN_KEY, rx_unknown_key, "neither key slot has the key id of the packet")             \
    X(RX_EPOCH_PAST, rx_epoch_past, "epoch is zero, or its key has been destroyed")                \
    X(RX_EPOCH_AHEAD, rx_epoch_ahead, "epoch is further ahead than keys are held")                 \
    X(RX_KEY_SPENT, rx_key_spent, "key has failed to authenticate too often")                      \
    X(RX_DECRYPT, rx_decrypt, "authentication failed")                                             \
    X(RX_REPLAY, rx_replay, "packet id is zero, seen, or behind the window")                       \
    X(RX_HELD, rx_held, "data waited for a key until its connection was closed")                   \
    X(RX_EMPTY, rx_empty, "no inner packet")                                                       \
    X(RX_SOURCE, rx_source, "inner source address is not the peer's")                              \
    X(RX_FORWARD_DENIED, rx_forward_denied, "peer may not reach the peer that the packet is for")  \
    X(RX_FORWARD_MALFORMED, rx_forward_malformed, "inner packet for a peer has bad lengths")       \
    X(RX_RATE_LIMIT, rx_rate_limit, "peer has sent more than its rate limit")                      \
    X(RX_ECN, rx_ecn, "congestion marked on a packet whose flow knows no ECN")                     \
    X(RX_TUN_DOWN, rx_tun_down, "interface is down or gone")                                       \
    X(RX_TUN_BACKLOG, rx_tun_backlog, "reader of the packet descriptor is too slow")               \
    X(RX_TUN_WRITE, rx_tun_write, "interface refused the packet")                                  \
    X(RX_HANDOFF_FULL, rx_handoff_full, "worker of the peer is too busy to take the datagram")     \
    X(CONTROL_FULL, control_full, "control packet with no room in the control ring")

enum dco_drop {
    DCO_DROP_NONE = 0,
#define X(id, name, text) DCO_DROP_##id,
    DCO_DROPS(X)
#undef X
        DCO_DROP_COUNT
};

#endif
