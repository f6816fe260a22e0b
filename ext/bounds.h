/* Every size of the engine, with the reason for it. */
#ifndef DCO_BOUNDS_H
#define DCO_BOUNDS_H

/* Peer ids are 24 bits on the wire; the all-ones value means "undefined" there. */
#define DCO_PEER_ID_MAX 0xFFFFFFu
#define DCO_PEER_ID_UNDEFINED 0xFFFFFFu

/* Key ids are three bits of the first byte. */
#define DCO_KEY_ID_MAX 7u

/* Replay window in packets: what the Linux driver uses. A multiple of 64. */
#define DCO_REPLAY_WINDOW 2048u
/* After this much silence nothing older than the newest id is taken. */
#define DCO_REPLAY_SILENCE_S 30u

/* AES-GCM usage limit: blocks plus packets under one key, 2^36 - 1. */
#define DCO_AES_GCM_USAGE_LIMIT ((UINT64_C(1) << 36) - 1)
/* A key that failed to authenticate this many packets is no longer used to open:
 * RFC 9001, section 6.6, gives 2^52 for AES-GCM and 2^36 for ChaCha20-Poly1305. */
#define DCO_AES_GCM_FORGERY_LIMIT (UINT64_C(1) << 52)
#define DCO_CHACHA_FORGERY_LIMIT (UINT64_C(1) << 36)

/* Epochs are 16 bits on the wire, 0 is none; packets of an epoch count in 48. */
#define DCO_EPOCH_MAX 0xFFFFu
#define DCO_EPOCH_COUNTER_MAX ((UINT64_C(1) << 48) - 1)
/* From here on the session should get a new key: enough epochs are left for any renegotiation. */
#define DCO_EPOCH_SOON 0xF000u
/* Future epochs that a receiver may hold keys for. OpenVPN 2 holds 4 with an offload, OpenVPN 3
 * holds 16; each costs a cipher context, made when the key is installed. */
#define DCO_EPOCH_FUTURES_MAX 16u

/* The largest IP packet, and the largest UDP payloads under IPv4 and IPv6. */
#define DCO_IP_PACKET_MAX 65535u
#define DCO_UDP4_PAYLOAD_MAX 65507u
#define DCO_UDP6_PAYLOAD_MAX 65527u

/* Datagrams in one UDP_SEGMENT send; kernels before 6.9 refuse more (UDP_MAX_SEGMENTS). */
#define DCO_GSO_SEGMENTS_MAX 64u

/* A transmit batch: packets and bytes read from the TUN before they are sent. The byte goal
 * is one full super-packet, so that bulk traffic is sent as soon as it is sealed. */
#define DCO_TUN_BATCH 64u
#define DCO_TUN_BATCH_BYTES 61440u
/* One read needs room for a whole super-packet behind its virtio_net_hdr (10 bytes). */
#define DCO_TUN_READ_MAX (65536u + 64u)
#define DCO_TUN_ARENA (DCO_TUN_BATCH_BYTES + DCO_TUN_READ_MAX)

/* Sealed packets waiting for one flush. Four full trains: small enough to stay in L2. */
#define DCO_SEND_ARENA (256u * 1024u)
#define DCO_SEND_MESSAGES 64u
/* How often one message is tried when errors of others come first: whoever empties the error queue
 * puts the next entry's error onto the socket, and a batch may leave one entry for each message. */
#define DCO_SEND_RETRIES DCO_SEND_MESSAGES

/* A receive call takes up to 16 trains of 64 KiB; without GRO, when the kernel hands out
 * single datagrams, up to 64 of the same buffers. */
#define DCO_RECV_TRAINS 16u
#define DCO_RECV_DATAGRAMS 64u
#define DCO_RECV_BUFFER 65536u

/* Super-packets under construction in one receive batch, and payloads in one of them:
 * 64 datagrams are the most that a GRO train holds. */
#define DCO_GRO_ITEMS 128u
#define DCO_GRO_SEGMENTS 64u

/* Options of one socket that are changed. */
#define DCO_OPTIONS_MAX 16u

/* UDP socket buffers asked for, each way, bytes. */
#define DCO_SOCKET_BUFFER (4u * 1024u * 1024u)

/* TCP. The largest frame of a connection that has no peer yet: only control packets, which are made
 * to fit a datagram of 1250 or 1500 bytes there as well. */
#define DCO_TCP_PENDING_FRAME 2048u
/* What the kernel may hold unsent of one connection. It asks for more at half of that, so there is
 * one transmit batch to send while the next is sealed; and a control packet that comes behind it
 * waits for about 10 ms at 100 Mbit/s. What was sent and not yet acknowledged does not count. */
#define DCO_TCP_NOTSENT (128u * 1024u)
/* What one connection may have waiting beside that: eight batches, or 40 ms at 100 Mbit/s. More
 * would be delay only; the flows inside see loss and slow down. */
#define DCO_TCP_QUEUE_MAX (512u * 1024u)
/* Its control packets: about 45 full-size ones, several windows of the reliable layer. */
#define DCO_TCP_CONTROL_MAX (64u * 1024u)
/* What waits is kept in chunks: large enough that a full queue is one gathered write, small enough
 * that a thousand slow peers find room. At most 64 MiB a worker, paid for when used. */
#define DCO_TCP_CHUNK (16u * 1024u)
#define DCO_TCP_POOL_CHUNKS 4096u
/* One in so many is for control packets only. */
#define DCO_TCP_POOL_RESERVE_SHARE 64u

/* What counts as one source of connections: the least that is announced on its own in IPv4, and
 * what a provider gives a household or a small office in IPv6 (RFC 6177). */
#define DCO_SOURCE_PREFIX_IPV4 24u
#define DCO_SOURCE_PREFIX_IPV6 56u

/* Control packets on their way to Python, bytes; about 700 full-size ones. */
#define DCO_CONTROL_RING (1024u * 1024u)

/* Sockets of one device that carry many peers: their number is part of the by-address key, which
 * has eight bits for it. */
#define DCO_SOCKETS_MAX 256u
/* Transports of one device, TCP connections included: one for each peer and many that wait. */
#define DCO_TRANSPORT_SLOT_BITS 17
#define DCO_TRANSPORTS_MAX (1u << DCO_TRANSPORT_SLOT_BITS)

/* Workers of one device. More than the cores of most hosts; each has up to two threads. */
#define DCO_WORKERS_MAX 16u
/* What one worker may have in flight to another, bytes: sixteen super-packets. */
#define DCO_HANDOFF_RING (1024u * 1024u)
/* The same of packets from peer to peer: as many as one receive call brings, each with its head. */
#define DCO_FORWARD_RING (2u * 1024u * 1024u)
/* Handed-over packets that are worked on in one batch, bytes: as many as a batch from the TUN. */
#define DCO_HANDOFF_BATCH (256u * 1024u)

/* What a trace may keep of a packet, bytes: all of it. And how many peers may be named to it: they
 * are compared one by one. */
#define DCO_TRACE_SNAP_MAX 65535u
#define DCO_TRACE_PEERS_MAX 64u

/* Peers of one device unless the caller says otherwise. */
#define DCO_PEERS_DEFAULT 65536u

/* How long a full socket buffer may hold the transmit thread before packets are dropped, ms. */
#define DCO_SEND_WAIT_MS 20

/* A message to a peer inside the data channel, bytes. Stock OpenVPN takes what fits its tun-mtu. */
#define DCO_MESSAGE_MAX (16u * 1024u)

/* Path MTUs below these are forged or useless: RFC 791 and RFC 8200 promise more. */
#define DCO_PATH_MTU_MIN_IPV4 576u
#define DCO_PATH_MTU_MIN_IPV6 1280u
/* How long a learned path MTU holds: RFC 1191, section 6.3. */
#define DCO_PATH_MTU_LIFE_NS (UINT64_C(600) * 1000000000u)
/* The smallest packet that a MSS is lowered to: below, hosts would be kept busy with headers. */
#define DCO_SEGMENT_MIN 128u
/* ICMP errors that one worker writes into the interface, each second and at once. */
#define DCO_ICMP_PER_S 1000u
#define DCO_ICMP_BURST 50u

/* What a rate limit may let pass at once, bytes: nine seconds of 1 Gbit/s. */
#define DCO_RATE_BURST_MAX (1u << 30)
/* What a copy for a group takes of its bucket, where looking at a peer takes 1. */
#define DCO_GROUP_COPY 16
#define DCO_GROUP_LEAST (4 * DCO_GROUP_COPY)
#define DCO_GROUP_COPIES_MAX (1u << 25)

#define DCO_CACHE_LINE 64

#endif
