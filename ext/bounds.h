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

/* UDP socket buffers asked for, each way, bytes. */
#define DCO_SOCKET_BUFFER (4u * 1024u * 1024u)

/* Control packets on their way to Python, bytes; about 700 full-size ones. */
#define DCO_CONTROL_RING (1024u * 1024u)

/* Transports of one device. */
#define DCO_TRANSPORTS_MAX 64

/* Peers of one device unless the caller says otherwise. */
#define DCO_PEERS_DEFAULT 65536u

/* How long a full socket buffer may hold the transmit thread before packets are dropped, ms. */
#define DCO_SEND_WAIT_MS 20

#define DCO_CACHE_LINE 64

#endif
