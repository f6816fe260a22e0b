/* The C API of the engine on one screen. Plain C11, no Python.
 *
 * Every call may come from any thread, returns 0 or a negative errno, and either takes effect or
 * changes nothing. Peers are named by (id, generation): the generation tells a peer from a later
 * one with the same id; 0 means whichever has the id now. Addresses are folded: IPv4-mapped IPv6
 * never appears. Times are nanoseconds of CLOCK_BOOTTIME, which counts suspend and never jumps. */
#ifndef DCO_H
#define DCO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "drops.h"

struct dco_engine;

/* Numbers of the kernel's uapi linux/ovpn.h, so that both engines answer alike. */
enum dco_mode { DCO_MODE_P2P = 0, DCO_MODE_MULTIPEER = 1 };
enum dco_cipher { DCO_CIPHER_NONE = 0, DCO_CIPHER_AES_GCM = 1, DCO_CIPHER_CHACHA20_POLY1305 = 2 };
enum dco_slot { DCO_SLOT_PRIMARY = 0, DCO_SLOT_SECONDARY = 1 };
enum dco_delete_reason {
    DCO_DELETED_TEARDOWN = 0,
    DCO_DELETED_USERSPACE = 1,
    DCO_DELETED_EXPIRED = 2,
    DCO_DELETED_TRANSPORT_ERROR = 3,
    DCO_DELETED_TRANSPORT_DISCONNECT = 4,
};

/* What the engine may use; each is probed, can be switched off, and degrades by itself. */
enum dco_offload {
    DCO_OFFLOAD_TUN_VNET = 1 << 0,    /* virtio_net_hdr and checksum offload on the TUN */
    DCO_OFFLOAD_TUN_TSO = 1 << 1,     /* TCP super-packets from the TUN */
    DCO_OFFLOAD_TUN_USO = 1 << 2,     /* UDP super-packets from the TUN (Linux 6.2) */
    DCO_OFFLOAD_TUN_TCP_GRO = 1 << 3, /* TCP super-packets to the TUN */
    DCO_OFFLOAD_TUN_UDP_GRO = 1 << 4, /* UDP super-packets to the TUN (Linux 6.2) */
    DCO_OFFLOAD_UDP_GSO = 1 << 5,     /* UDP_SEGMENT on send (Linux 4.18) */
    DCO_OFFLOAD_UDP_GRO = 1 << 6,     /* UDP_GRO on receive (used from Linux 5.12) */
    DCO_OFFLOAD_UDP_BATCH = 1 << 7,   /* several messages per sendmmsg and recvmmsg */
    DCO_OFFLOAD_VAES_GCM = 1 << 8,    /* AES-GCM of our own, for keys installed from then on */
    DCO_OFFLOAD_ALL = (1 << 9) - 1,
};
#define DCO_OFFLOAD_COUNT 9

struct dco_address {
    uint8_t family; /* AF_INET, AF_INET6; 0: none */
    uint8_t ip[16]; /* IPv4 in the first four bytes */
    uint16_t port;  /* host order; 0 where only the address counts */
    uint32_t scope; /* IPv6 scope id */
};

struct dco_prefix {
    uint8_t family;
    uint8_t length; /* bits */
    uint8_t ip[16];
};

struct dco_peer_ref {
    uint32_t id;
    uint64_t generation;
};

struct dco_engine_config {
    enum dco_mode mode;
    bool source_check; /* RPF on the longest-prefix table */
    uint32_t max_peers;
    uint32_t offloads; /* mask of enum dco_offload that may be used */
};

struct dco_tun_info {
    char name[16]; /* empty when the port is no interface */
    uint32_t ifindex;
    uint32_t offloads;
    bool owned; /* the engine made the interface and removes it */
    bool vnet;
};

struct dco_transport_config {
    bool df;              /* learn the path MTU with DF set, instead of letting routers fragment */
    uint32_t send_buffer; /* bytes; 0: DCO_SOCKET_BUFFER */
    uint32_t receive_buffer;
};

struct dco_transport_info {
    struct dco_address local;
    uint32_t send_buffer, receive_buffer; /* bytes in effect */
    uint32_t offloads;
    uint32_t peers;
    uint64_t receive_overflows; /* datagrams that the kernel dropped: SO_RXQ_OVFL */
    uint64_t icmp_errors;       /* entries of the error queue */
    bool failed;
};

/* A peer's settings. `present` says which fields a change carries. */
enum dco_peer_field {
    DCO_PEER_REMOTE = 1 << 0,
    DCO_PEER_LOCAL = 1 << 1,
    DCO_PEER_VPN_IPV4 = 1 << 2,
    DCO_PEER_VPN_IPV6 = 1 << 3,
    DCO_PEER_KEEPALIVE = 1 << 4,
    DCO_PEER_TX_ID = 1 << 5,
};

struct dco_peer_config {
    uint32_t present;
    uint32_t id, tx_id;
    uint32_t transport;
    struct dco_address remote, local;
    uint8_t vpn_ipv4[4], vpn_ipv6[16]; /* all zero: none */
    uint32_t keepalive_interval_s, keepalive_timeout_s;
};

/* X-macro tables keep the C structs, Cython and Python in step. */
/* clang-format off */
#define DCO_PEER_RX_COUNTERS(X)                                                                \
    X(link_rx_bytes) X(link_rx_packets) X(vpn_rx_bytes) X(vpn_rx_packets)                      \
    X(rx_decrypt_errors) X(rx_replay_errors) X(rx_unknown_key_id) X(rx_unsupported_protocol)   \
    X(rx_source_errors) X(keepalive_rx) X(float_count)
#define DCO_PEER_TX_COUNTERS(X)                                                                \
    X(link_tx_bytes) X(link_tx_packets) X(vpn_tx_bytes) X(vpn_tx_packets)                      \
    X(tx_encrypt_errors) X(tx_iv_exhausted) X(tx_no_key) X(tx_no_transport) X(tx_gso_errors)   \
    X(keepalive_tx)
/* clang-format on */
/* link_errors: ICMP errors that name the peer's address. Any thread may meet them. */
#define DCO_PEER_COUNTERS(X) DCO_PEER_RX_COUNTERS(X) DCO_PEER_TX_COUNTERS(X) X(link_errors)

struct dco_peer_stats {
#define X(name) uint64_t name;
    DCO_PEER_COUNTERS(X)
#undef X
};

struct dco_peer_info {
    struct dco_peer_ref ref;
    struct dco_peer_config config; /* as it stands: remote and local are the live endpoint */
    struct dco_peer_stats stats;
    uint64_t last_received_ns, last_sent_ns, now_ns; /* 0: never */
};

struct dco_key_config {
    uint8_t key_id;
    enum dco_cipher cipher;
    const uint8_t *encrypt_key, *decrypt_key;
    size_t encrypt_key_size, decrypt_key_size; /* bytes; AES takes 16, 24 or 32, ChaCha 32 */
    uint8_t encrypt_nonce_tail[8], decrypt_nonce_tail[8];
    uint64_t first_packet_id; /* 0: start at 1 */
};

struct dco_key_info {
    uint8_t key_id;
    enum dco_cipher cipher;
    uint8_t key_size; /* bytes */
    uint64_t packets_sealed, usage;
    bool vaes_gcm; /* not OpenSSL's cipher but ours: DCO_OFFLOAD_VAES_GCM */
};

enum dco_event_kind {
    DCO_EVENT_PEER_DELETED = 1,
    DCO_EVENT_PEER_FLOATED,
    DCO_EVENT_PEER_FLOAT_REFUSED,
    DCO_EVENT_KEY_SOON,      /* 7/8 of the ids or of the usage limit */
    DCO_EVENT_KEY_EXHAUSTED, /* the key seals no more */
    DCO_EVENT_TRANSPORT_FAILED,
    DCO_EVENT_INTERFACE_GONE,
};

struct dco_event {
    enum dco_event_kind kind;
    uint64_t sequence; /* shared with control packets: the order in which things happened */
    struct dco_peer_ref peer;
    struct dco_address remote, local; /* floats */
    uint8_t key_id;
    enum dco_delete_reason reason;
    struct dco_peer_stats stats; /* deletions: the final counters */
    uint32_t transport;          /* transports */
    int error;                   /* errno of what failed */
};

struct dco_control_packet {
    uint64_t sequence;
    uint32_t transport;
    int64_t peer_id; /* -1: unauthenticated packet of the control channel */
    struct dco_address remote, local;
    size_t size;
};

/* clang-format off */
#define DCO_ENGINE_COUNTERS(X)                                                                 \
    X(tun_reads) X(tun_read_packets) X(tun_writes) X(tun_write_packets)                        \
    X(udp_sends) X(udp_send_messages) X(udp_send_packets)                                      \
    X(udp_receives) X(udp_receive_messages) X(udp_receive_packets)                             \
    X(control_packets) X(wakeups) X(gso_fallbacks) X(gro_fallbacks) X(send_retries)            \
    X(oversize_sends)
/* clang-format on */

/* Batch sizes by powers of two: 1, 2-3, 4-7, ... 64 and more. */
#define DCO_BATCH_BUCKETS 8

struct dco_engine_stats {
#define X(name) uint64_t name;
    DCO_ENGINE_COUNTERS(X)
#undef X
    uint64_t drops[DCO_DROP_COUNT];
    uint64_t tx_batches[DCO_BATCH_BUCKETS], rx_batches[DCO_BATCH_BUCKETS];
    uint64_t peers, transports;
    uint64_t retired; /* objects that wait for the threads to pass */
};

/* Lifecycle. `tun_fd` < 0 opens the interface `name` in the namespace `netns_fd` (< 0: here). */
int dco_engine_create(const struct dco_engine_config *config, struct dco_engine **engine);
int dco_engine_open_tun(struct dco_engine *engine, const char *name, int netns_fd);
int dco_engine_adopt_tun(struct dco_engine *engine, int fd);
int dco_engine_start(struct dco_engine *engine);
void dco_engine_close(struct dco_engine *engine);     /* stops threads; idempotent */
void dco_engine_forget(struct dco_engine *engine);    /* after fork, in the child */
void dco_engine_free(struct dco_engine *engine);      /* closes too */
int dco_engine_event_fd(struct dco_engine *engine);   /* readable while events wait */
int dco_engine_control_fd(struct dco_engine *engine); /* readable while control packets wait */
int dco_engine_set_offloads(struct dco_engine *engine, uint32_t offloads);
int dco_engine_offloads(struct dco_engine *engine, uint32_t *allowed, uint32_t *active);
int dco_engine_set_source_check(struct dco_engine *engine, bool on);
int dco_engine_stats(struct dco_engine *engine, struct dco_engine_stats *stats);
int dco_engine_tun_info(struct dco_engine *engine, struct dco_tun_info *info);

int dco_transport_attach_udp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint32_t *transport);
int dco_transport_detach(struct dco_engine *engine, uint32_t transport); /* options restored */
int dco_transport_send(struct dco_engine *engine, uint32_t transport, const void *data, size_t size,
                       const struct dco_address *remote, const struct dco_address *local);
int dco_transport_query(struct dco_engine *engine, uint32_t transport,
                        struct dco_transport_info *info);

int dco_peer_add(struct dco_engine *engine, const struct dco_peer_config *config,
                 uint64_t *generation);
int dco_peer_set(struct dco_engine *engine, struct dco_peer_ref ref,
                 const struct dco_peer_config *config);
int dco_peer_delete(struct dco_engine *engine, struct dco_peer_ref ref);
int dco_peer_query(struct dco_engine *engine, struct dco_peer_ref ref, struct dco_peer_info *info);
/* All peers: writes up to `capacity`, returns how many there are. */
long dco_peer_list(struct dco_engine *engine, struct dco_peer_info *infos, size_t capacity);

int dco_key_install(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                    const struct dco_key_config *config);
int dco_key_swap(struct dco_engine *engine, struct dco_peer_ref ref);
int dco_key_delete(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot);
int dco_key_query(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                  struct dco_key_info *info);

int dco_route_add(struct dco_engine *engine, const struct dco_prefix *prefix,
                  struct dco_peer_ref ref);
int dco_route_delete(struct dco_engine *engine, const struct dco_prefix *prefix);
int dco_route_lookup(struct dco_engine *engine, const struct dco_address *address,
                     struct dco_peer_ref *ref);

/* Both return how many were written, 0 when nothing waits. `dco_control_receive` takes one packet:
 * 1 and its header and bytes, 0, or -EMSGSIZE when `capacity` is too small (then it stays). */
int dco_control_receive(struct dco_engine *engine, struct dco_control_packet *packet, void *data,
                        size_t capacity);
int dco_event_poll(struct dco_engine *engine, struct dco_event *events, size_t capacity);

const char *dco_drop_name(enum dco_drop reason);
const char *dco_drop_text(enum dco_drop reason);

#endif
