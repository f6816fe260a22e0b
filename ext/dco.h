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

/* Which inner source addresses a peer may use: any; any that is owned by some peer of the device; its
 * own. INHERIT, of a peer: as the device has it. In P2P mode all are free. */
enum dco_source_check {
    DCO_SOURCE_CHECK_INHERIT = 0,
    DCO_SOURCE_CHECK_OFF = 1,
    DCO_SOURCE_CHECK_LOOSE = 2,
    DCO_SOURCE_CHECK_STRICT = 3,
};

/* Packets from peer to peer: by the host, as all others; from each to each without it; or to whom
 * dco_peer_permit says. */
enum dco_forwarding {
    DCO_FORWARDING_OFF = 0,
    DCO_FORWARDING_ALL = 1,
    DCO_FORWARDING_PERMITTED = 2,
};

/* What the engine may use; each is probed, can be switched off, and degrades by itself. */
enum dco_offload {
    DCO_OFFLOAD_TUN_VNET = 1 << 0,     /* virtio_net_hdr and checksum offload on the TUN */
    DCO_OFFLOAD_TUN_TSO = 1 << 1,      /* TCP super-packets from the TUN */
    DCO_OFFLOAD_TUN_USO = 1 << 2,      /* UDP super-packets from the TUN (Linux 6.2) */
    DCO_OFFLOAD_TUN_TCP_GRO = 1 << 3,  /* TCP super-packets to the TUN */
    DCO_OFFLOAD_TUN_UDP_GRO = 1 << 4,  /* UDP super-packets to the TUN (Linux 6.2) */
    DCO_OFFLOAD_UDP_GSO = 1 << 5,      /* UDP_SEGMENT on send (Linux 4.18) */
    DCO_OFFLOAD_UDP_GRO = 1 << 6,      /* UDP_GRO on receive (used from Linux 5.12) */
    DCO_OFFLOAD_UDP_BATCH = 1 << 7,    /* several messages per sendmmsg and recvmmsg */
    DCO_OFFLOAD_UDP_SIBLINGS = 1 << 8, /* a socket for each worker, by SO_REUSEPORT */
    DCO_OFFLOAD_UDP_STEERING = 1 << 9, /* classic BPF takes a datagram to its peer's worker */
    DCO_OFFLOAD_VAES_GCM = 1 << 10,    /* AES-GCM of our own, for keys installed from then on */
    DCO_OFFLOAD_ALL = (1 << 11) - 1,
};
#define DCO_OFFLOAD_COUNT 11

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
    enum dco_source_check source_check; /* RPF on the longest-prefix table */
    bool single_thread; /* one thread for both directions, for machines with one core */
    bool unreachable;   /* packets that are nobody's are answered with ICMP */
    uint32_t workers;   /* 1 to DCO_WORKERS_MAX; 0: 1 */
    uint32_t max_peers;
    uint32_t offloads; /* mask of enum dco_offload that may be used */
};

struct dco_tun_info {
    char name[16];    /* now, or, if it was deleted, when it was opened; empty: no interface */
    uint32_t ifindex; /* when it was opened */
    uint32_t offloads;
    uint32_t queues;
    bool owned;      /* the engine made the interface, or took over a persistent one */
    bool existed;    /* the latter */
    bool present;    /* not deleted */
    bool persistent; /* stays when the engine closes */
    bool vnet;
};

/* An option of a socket that was changed, and what it was. */
struct dco_option {
    int level, name, saved;
};

struct dco_transport_config {
    bool df;              /* learn the path MTU with DF set, instead of letting routers fragment */
    uint32_t send_buffer; /* bytes; 0: DCO_SOCKET_BUFFER */
    uint32_t receive_buffer;
};

/* What connections of a listening socket must keep until a peer is bound to them. */
struct dco_listener_config {
    uint32_t trials_max;            /* connections without a peer */
    uint32_t trials_per_source_max; /* of one prefix of DCO_SOURCE_PREFIX_* bits */
    uint32_t deadline_s;
};

enum dco_transport_kind { DCO_TRANSPORT_UDP = 1, DCO_TRANSPORT_TCP, DCO_TRANSPORT_LISTENER };

struct dco_transport_info {
    enum dco_transport_kind kind;
    uint32_t sockets;                     /* UDP: one, or one for each worker */
    struct dco_address local, remote;     /* remote: TCP */
    uint32_t send_buffer, receive_buffer; /* bytes in effect */
    uint32_t offloads;
    uint32_t peers;
    uint64_t receive_overflows;          /* datagrams that the kernel dropped: SO_RXQ_OVFL */
    uint64_t icmp_errors;                /* entries of the error queue */
    uint64_t waiting;                    /* TCP: bytes that the socket has not taken yet */
    uint32_t trials;                     /* listener: connections without a peer */
    uint64_t accepted, refused, expired; /* listener: connections */
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
    DCO_PEER_RATE_LIMIT = 1 << 6,
    DCO_PEER_SOURCE_CHECK = 1 << 7,
    DCO_PEER_MARKING = 1 << 8,
    DCO_PEER_LIMITS = 1 << 9,
    DCO_PEER_MSS_CLAMP = 1 << 10,
    DCO_PEER_PATH_LIMIT = 1 << 11,
    DCO_PEER_NO_GROUPS = 1 << 12,
};

/* What a size counts: all of what the outer IP header begins, the payload of the datagram, or of the
 * connection, in that, or the packet inside. */
enum dco_measure { DCO_MEASURE_OUTER, DCO_MEASURE_DATAGRAM, DCO_MEASURE_INNER };

/* Inner packets beyond it are dropped. */
struct dco_rate {
    uint64_t bits_per_s;  /* 0: no limit */
    uint32_t burst_bytes; /* at most DCO_RATE_BURST_MAX */
};

/* What becomes of the ECN bits of inner and outer header over UDP: RFC 6040. */
enum dco_ecn {
    DCO_ECN_NORMAL,        /* copied out; marks of routers are brought in */
    DCO_ECN_COMPATIBILITY, /* the outer header has none; marks are brought in */
    DCO_ECN_OFF,           /* neither */
};

struct dco_marking {
    enum dco_ecn ecn;
    bool dscp; /* over UDP: copied out */
};

/* What is told by DCO_EVENT_LIMIT_REACHED, once each until it is set again: times in seconds, bytes
 * and packets of both ways. The last two count from the last key, and anew with each. */
enum dco_limit {
    DCO_LIMIT_INACTIVE,
    DCO_LIMIT_SESSION,
    DCO_LIMIT_QUOTA_BYTES,
    DCO_LIMIT_QUOTA_PACKETS,
    DCO_LIMIT_RENEGOTIATE_BYTES,
    DCO_LIMIT_RENEGOTIATE_PACKETS,
    DCO_LIMITS,
};

struct dco_limits {
    uint32_t given;             /* bit n: limit n; the others stay as they are */
    uint64_t value[DCO_LIMITS]; /* 0: off */
    uint64_t inactive_bytes;    /* with INACTIVE: fewer are no activity */
};

/* How far they have come. */
struct dco_limits_state {
    uint32_t armed;
    uint64_t due[DCO_LIMITS], active_at;
};

struct dco_peer_config {
    uint32_t present;
    uint32_t id, tx_id;
    uint64_t transport;
    struct dco_address remote, local;
    uint8_t vpn_ipv4[4], vpn_ipv6[16]; /* all zero: none */
    uint32_t keepalive_interval_s, keepalive_timeout_s;
    struct dco_rate tx_rate, rx_rate;
    enum dco_source_check source_check;
    struct dco_marking marking;
    struct dco_limits limits;
    uint32_t mss_clamp;  /* bytes that TCP segments may make; 0: any */
    uint32_t path_limit; /* outer bytes that the path carries; 0: unknown */
    enum dco_measure mss_measure;
    bool no_groups; /* gets no multicast and broadcast */
};

/* X-macro tables keep the C structs, Cython and Python in step. */
/* clang-format off */
#define DCO_PEER_RX_COUNTERS(X)                                                                \
    X(link_rx_bytes) X(link_rx_packets) X(vpn_rx_bytes) X(vpn_rx_packets)                      \
    X(rx_decrypt_errors) X(rx_replay_errors) X(rx_unknown_key_id) X(rx_unsupported_protocol)   \
    X(rx_source_errors) X(rx_forward_denied) X(rx_rate_limited) X(rx_dropped) X(keepalive_rx)  \
    X(float_count)
#define DCO_PEER_TX_COUNTERS(X)                                                                \
    X(link_tx_bytes) X(link_tx_packets) X(vpn_tx_bytes) X(vpn_tx_packets)                      \
    X(tx_encrypt_errors) X(tx_iv_exhausted) X(tx_no_key) X(tx_no_transport) X(tx_gso_errors)   \
    X(tx_rate_limited) X(tx_dropped) X(keepalive_tx) X(messages_tx)
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
    uint64_t keepalive_set_ns;                       /* where both timers started */
    struct dco_limits_state limits;
    uint32_t path_mtu; /* outer bytes, as set or learned, whatever is less; 0: unknown */
    uint32_t mss;      /* in effect for TCP over IPv4, 20 less over IPv6; 0: any */
    uint32_t learned;  /* payload of the largest datagram, from ICMP; 0: nothing */
    uint64_t learned_until_ns;
};

struct dco_key_config {
    uint8_t key_id;
    enum dco_cipher cipher;
    const uint8_t *encrypt_key, *decrypt_key;
    size_t encrypt_key_size, decrypt_key_size; /* bytes; AES takes 16, 24 or 32, ChaCha 32 */
    uint8_t encrypt_nonce_tail[8], decrypt_nonce_tail[8];
    uint64_t first_packet_id; /* 0: start at 1 */

    /* The epoch format: the keys above are then the secrets of epoch 1, 32 bytes each, and there
     * are no nonce tails. */
    uint32_t future_epochs; /* keys to hold for epochs to come; 0: the classic format */
    uint32_t first_epoch;   /* where both directions start; 0: at 1 */
    uint32_t receive_epoch; /* where this one does instead; 0: no difference */
    bool late_secrets;      /* they are those of the first epochs, not of epoch 1 */
    size_t epoch_key_size;  /* bytes of each data key */
};

struct dco_key_info {
    uint8_t key_id;
    enum dco_cipher cipher;
    uint8_t key_size; /* bytes */
    uint64_t packets_sealed, usage;
    uint32_t send_epoch, receive_epoch; /* 0: the classic format */
    bool vaes_gcm;                      /* not OpenSSL's cipher but ours: DCO_OFFLOAD_VAES_GCM */
};

enum dco_event_kind {
    DCO_EVENT_PEER_DELETED = 1,
    DCO_EVENT_PEER_FLOATED,
    DCO_EVENT_PEER_FLOAT_REFUSED,
    DCO_EVENT_KEY_SOON,      /* 7/8 of the ids or of the usage limit */
    DCO_EVENT_KEY_EXHAUSTED, /* the key seals no more */
    DCO_EVENT_TRANSPORT_FAILED,
    DCO_EVENT_INTERFACE_GONE,
    DCO_EVENT_LIMIT_REACHED,
};

struct dco_event {
    enum dco_event_kind kind;
    uint64_t sequence; /* shared with control packets: the order in which things happened */
    struct dco_peer_ref peer;
    struct dco_address remote, local; /* floats */
    uint8_t key_id;
    uint32_t limits; /* that were reached: bit n, limit n */
    enum dco_delete_reason reason;
    struct dco_peer_stats stats; /* deletions: the final counters */
    uint64_t transport;          /* transports */
    int error;                   /* errno of what failed */
};

struct dco_control_packet {
    uint64_t sequence;
    uint64_t transport;
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
    X(oversize_sends) X(handed_to_seal) X(handed_to_open)                                      \
    X(mss_lowered) X(packets_fragmented) X(icmp_errors_written)                                \
    X(forwarded_packets) X(forwarded_bytes) X(group_packets) X(replicated_packets)             \
    X(tcp_sends) X(tcp_send_packets) X(tcp_receives) X(tcp_receive_packets) X(peer_messages)
/* clang-format on */

/* Batch sizes by powers of two: 1, 2-3, 4-7, ... 128 and more. */
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

/* Lifecycle. The interface `name` is made in the namespace `netns_fd` (< 0: here), or, with
 * `existing`, taken over if it is there and persistent. */
int dco_engine_create(const struct dco_engine_config *config, struct dco_engine **engine);
int dco_engine_open_tun(struct dco_engine *engine, const char *name, int netns_fd, bool existing);
int dco_engine_adopt_tun(struct dco_engine *engine, const int *fds, unsigned queues);
int dco_engine_start(struct dco_engine *engine);
void dco_engine_close(struct dco_engine *engine);  /* stops threads; idempotent */
void dco_engine_free(struct dco_engine *engine);   /* closes too */
void dco_engine_freeze(struct dco_engine *engine); /* before fork: nothing half changed */
void dco_engine_thaw(struct dco_engine *engine);   /* after fork, in the parent */
void dco_engine_forget(struct dco_engine *engine); /* after fork, in the child */
/* Readable while events, or control packets, wait. Whoever has asked may be waiting on it: then it
 * stays open, and readable, until the engine is freed; else it goes when the engine is closed. */
int dco_engine_event_fd(struct dco_engine *engine);
int dco_engine_control_fd(struct dco_engine *engine);
/* Until an event waits. 1; 0 after the time (< 0: no limit); -EINTR; -EBADF: closed. */
int dco_engine_wait(struct dco_engine *engine, int timeout_ms);
int dco_engine_set_offloads(struct dco_engine *engine, uint32_t offloads);
int dco_engine_offloads(struct dco_engine *engine, uint32_t *allowed, uint32_t *active);
int dco_engine_set_source_check(struct dco_engine *engine, enum dco_source_check check);
/* MULTIPEER only, else -EINVAL. */
int dco_engine_set_forwarding(struct dco_engine *engine, enum dco_forwarding forwarding);
/* Whether multicast and broadcast go to all peers, and how many copies a worker may make in a second;
 * 0: they do not. MULTIPEER only, else -EINVAL. */
int dco_engine_set_multicast(struct dco_engine *engine, uint32_t copies_per_s);
int dco_engine_stats(struct dco_engine *engine, struct dco_engine_stats *stats);
int dco_engine_tun_info(struct dco_engine *engine, struct dco_tun_info *info);
int dco_engine_tun_namespace(struct dco_engine *engine); /* a new descriptor of where it is now */
int dco_engine_set_persistent(struct dco_engine *engine, bool on);
int dco_engine_set_owner(struct dco_engine *engine, uint32_t user);

int dco_transport_attach_udp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint64_t *transport);
int dco_transport_attach_tcp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint64_t *transport);
int dco_transport_listen_tcp(struct dco_engine *engine, int fd,
                             const struct dco_listener_config *config, uint64_t *transport);
int dco_transport_detach(struct dco_engine *engine, uint64_t transport); /* options restored */
/* TCP: no addresses; behind control packets and ahead of data that wait. -EAGAIN: too many wait. */
int dco_transport_send(struct dco_engine *engine, uint64_t transport, const void *data, size_t size,
                       const struct dco_address *remote, const struct dco_address *local);
int dco_transport_query(struct dco_engine *engine, uint64_t transport,
                        struct dco_transport_info *info);

int dco_peer_add(struct dco_engine *engine, const struct dco_peer_config *config,
                 uint64_t *generation);
int dco_peer_set(struct dco_engine *engine, struct dco_peer_ref ref,
                 const struct dco_peer_config *config);
int dco_peer_delete(struct dco_engine *engine, struct dco_peer_ref ref);
/* A message inside the data channel, in order with others of this peer. -ENOKEY: nothing to seal it
 * with; -EAGAIN: too many are on their way. */
int dco_peer_send(struct dco_engine *engine, struct dco_peer_ref ref, const void *data,
                  size_t size);
int dco_peer_query(struct dco_engine *engine, struct dco_peer_ref ref, struct dco_peer_info *info);
/* Whom the peer may reach with DCO_FORWARDING_PERMITTED: peers by generation, in ascending order.
 * Nobody before that is said. */
int dco_peer_permit(struct dco_engine *engine, struct dco_peer_ref ref, const uint64_t *generations,
                    size_t count);
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
/* Addresses that no peer may have, though a wider route covers them: the host's own, and groups'. In
 * place of those that were given before. */
struct dco_reserved {
    struct dco_prefix prefix;
    bool group; /* broadcast: multicast is known without it */
};
int dco_engine_reserve(struct dco_engine *engine, const struct dco_reserved *reserved,
                       size_t count);
int dco_route_lookup(struct dco_engine *engine, const struct dco_address *address,
                     struct dco_peer_ref *ref);

/* --- state: what another engine needs to go on, in another process of this machine --- */

/* Stops the threads and keeps everything else: packets wait in the kernel. From here on the sockets
 * and the interface may be somebody else's: closing leaves them as they are. A start takes all
 * back. -EINVAL: does not run. */
int dco_engine_halt(struct dco_engine *engine);
/* Descriptor of a TUN queue, the engine's own; -ENOENT: no more. */
int dco_engine_tun_queue(struct dco_engine *engine, unsigned queue);

/* A key and how far it has come. Secret. */
struct dco_key_state {
    uint8_t key_id;
    enum dco_cipher cipher;
    uint8_t key_size;                 /* bytes */
    uint32_t future_epochs;           /* 0: the classic format */
    uint8_t encrypt[32], decrypt[32]; /* keys; or the secrets of the two epochs below */
    uint8_t encrypt_nonce_tail[8], decrypt_nonce_tail[8];
    uint32_t send_epoch, receive_epoch;
    uint64_t next_packet_id;   /* the first that the other engine may seal with */
    uint64_t newest_packet_id; /* received; nothing at or below will be taken */
    uint64_t packets_sealed, usage, open_usage, forgeries;
};

/* Of a halted engine (else -EINVAL). `reserve` packet ids stay with it, or half of those that are
 * left: should it be started again although another has gone on, no id is used by both. */
int dco_key_export(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                   uint64_t reserve, struct dco_key_state *state);
int dco_key_import(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                   const struct dco_key_state *state);

/* The rest of a peer is in dco_peer_info. */
int dco_peer_import(struct dco_engine *engine, struct dco_peer_ref ref,
                    const struct dco_peer_info *info);

struct dco_transport_state {
    enum dco_transport_kind kind;
    bool df, accepted, heard, held;
    uint32_t send_buffer, receive_buffer; /* bytes as asked for; 0: by default */
    uint32_t options;                     /* of the socket, as they were before it was attached */
    struct dco_option option[DCO_OPTIONS_MAX];
    struct dco_listener_config listener;
    uint64_t listener_timeout_us;       /* SO_RCVTIMEO as it was */
    uint32_t tail, rest, control, data; /* TCP: bytes received in part, and not sent yet */
    uint32_t sockets;
    int fd[DCO_WORKERS_MAX]; /* the engine's own */
};

/* Of a halted engine. `bytes` gets tail, rest, control and data; -EMSGSIZE when they are more than
 * `capacity`, with their sizes in `state`. */
int dco_transport_export(struct dco_engine *engine, uint64_t transport,
                         struct dco_transport_state *state, uint8_t *bytes, size_t capacity);
/* Into an engine that has not started; `fd` are copied. */
int dco_transport_import(struct dco_engine *engine, const struct dco_transport_state *state,
                         const uint8_t *bytes, uint64_t *transport);

/* Both return how many were written, 0 when nothing waits. `dco_control_receive` takes one packet:
 * 1 and its header and bytes, 0, or -EMSGSIZE when `capacity` is too small (then it stays). */
int dco_control_receive(struct dco_engine *engine, struct dco_control_packet *packet, void *data,
                        size_t capacity);
int dco_event_poll(struct dco_engine *engine, struct dco_event *events, size_t capacity);

/* --- trace: packets with what became of them, for whoever looks for the reason --- */

enum dco_trace_point {
    DCO_TRACE_TX_INNER = 1 << 0, /* from the interface, super-packets whole */
    DCO_TRACE_TX_OUTER = 1 << 1, /* sealed */
    DCO_TRACE_RX_OUTER = 1 << 2, /* from the wire, before it is opened */
    DCO_TRACE_RX_INNER = 1 << 3, /* opened */
    DCO_TRACE_ALL = (1 << 4) - 1,
};

struct dco_trace_config {
    uint32_t points; /* mask of enum dco_trace_point */
    bool drops_only;
    uint32_t share;     /* of 2^32 packets so many, told by their packet ids; 0: all */
    uint32_t snap;      /* bytes of each packet, at most DCO_TRACE_SNAP_MAX */
    uint32_t ring_size; /* bytes for each thread, a power of two, at least four records */
    const struct dco_peer_ref *peers; /* those to look at; generation 0: whoever has the id */
    size_t peer_count; /* at most DCO_TRACE_PEERS_MAX; 0: all, and what has no peer */
};

enum dco_trace_format { DCO_TRACE_NO_ID = 0, DCO_TRACE_CLASSIC_ID, DCO_TRACE_EPOCH_ID };

struct dco_trace_record {
    uint64_t time_ns; /* CLOCK_REALTIME */
    enum dco_trace_point point;
    enum dco_drop drop;           /* of `lost` packets; DCO_DROP_NONE: it went on */
    struct dco_peer_ref peer;     /* generation 0: none */
    enum dco_trace_format format; /* of what follows */
    uint64_t packet_id;           /* of a super-packet that of its first segment */
    uint8_t key_id;
    bool stream;                      /* over TCP */
    struct dco_address remote, local; /* outer points; the local one may be unknown */
    uint32_t size, kept;              /* bytes of the packet, and how many are here */
    uint32_t packets, lost;           /* segments of a super-packet; of them, or copies, dropped */
};

/* One at a time: -EBUSY. `*fd` is readable while records wait; it lives until the next start. */
int dco_trace_start(struct dco_engine *engine, const struct dco_trace_config *config, int *fd);
/* No records are made any more; those that wait can still be read. -ENOENT: there is no trace. */
int dco_trace_stop(struct dco_engine *engine);
/* The oldest record that waits: 1, and its bytes; 0; -EMSGSIZE when `capacity` is too small. */
int dco_trace_read(struct dco_engine *engine, struct dco_trace_record *record, void *data,
                   size_t capacity);
/* How many records of the present trace, or the last one, found no room. */
int dco_trace_lost(struct dco_engine *engine, uint64_t *lost);

const char *dco_drop_name(enum dco_drop reason);
const char *dco_drop_text(enum dco_drop reason);

#endif
