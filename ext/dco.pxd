"""The C API of the engine, as Cython sees it; `dco.h` says what everything means.

Struct fields that come from X-macro tables are declared in `_core.pyx` as arrays with their names."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "dco.h" nogil:
    cdef struct dco_engine:
        pass

    ctypedef enum dco_mode "enum dco_mode":
        pass
    ctypedef enum dco_cipher "enum dco_cipher":
        pass
    ctypedef enum dco_measure "enum dco_measure":
        pass
    ctypedef enum dco_ecn "enum dco_ecn":
        pass
    ctypedef enum dco_slot "enum dco_slot":
        pass
    ctypedef enum dco_drop "enum dco_drop":
        pass
    ctypedef enum dco_source_check "enum dco_source_check":
        pass
    ctypedef enum dco_forwarding "enum dco_forwarding":
        pass

    enum:
        DCO_DROP_COUNT
        DCO_BATCH_BUCKETS
        DCO_OFFLOAD_ALL
        DCO_PEERS_DEFAULT
        DCO_SOCKET_BUFFER
        DCO_RECV_BUFFER
        DCO_TRANSPORTS_MAX
        DCO_WORKERS_MAX
        DCO_OPTIONS_MAX
        DCO_EPOCH_MAX
        DCO_EPOCH_FUTURES_MAX
        DCO_TRACE_SNAP_MAX
        DCO_TRACE_PEERS_MAX

    enum:
        DCO_PEER_REMOTE
        DCO_PEER_LOCAL
        DCO_PEER_VPN_IPV4
        DCO_PEER_VPN_IPV6
        DCO_PEER_KEEPALIVE
        DCO_PEER_TX_ID
        DCO_PEER_RATE_LIMIT
        DCO_PEER_LIMITS
        DCO_PEER_SOURCE_CHECK
        DCO_PEER_MARKING
        DCO_PEER_MSS_CLAMP
        DCO_PEER_PATH_LIMIT
        DCO_PEER_NO_GROUPS

    enum:
        DCO_EVENT_PEER_DELETED
        DCO_EVENT_PEER_FLOATED
        DCO_EVENT_PEER_FLOAT_REFUSED
        DCO_EVENT_KEY_SOON
        DCO_EVENT_KEY_EXHAUSTED
        DCO_EVENT_TRANSPORT_FAILED
        DCO_EVENT_INTERFACE_GONE
        DCO_EVENT_LIMIT_REACHED

    cdef struct dco_address:
        uint8_t family
        uint8_t ip[16]
        uint16_t port
        uint32_t scope

    cdef struct dco_prefix:
        uint8_t family
        uint8_t length
        uint8_t ip[16]

    cdef struct dco_peer_ref:
        uint32_t id
        uint64_t generation

    cdef struct dco_engine_config:
        dco_mode mode
        dco_source_check source_check
        bint single_thread
        bint unreachable
        uint32_t workers
        uint32_t max_peers
        uint32_t offloads

    cdef struct dco_tun_info:
        char name[16]
        uint32_t ifindex
        uint32_t offloads
        uint32_t queues
        bint owned
        bint existed
        bint present
        bint persistent
        bint vnet

    cdef struct dco_transport_config:
        bint df
        uint32_t send_buffer
        uint32_t receive_buffer

    cdef struct dco_listener_config:
        uint32_t trials_max
        uint32_t trials_per_source_max
        uint32_t deadline_s

    cdef struct dco_transport_info:
        int kind
        uint32_t sockets
        dco_address local
        dco_address remote
        uint32_t send_buffer
        uint32_t receive_buffer
        uint32_t offloads
        uint32_t peers
        uint64_t receive_overflows
        uint64_t icmp_errors
        uint64_t waiting
        uint32_t trials
        uint64_t accepted
        uint64_t refused
        uint64_t expired
        bint failed

    cdef struct dco_rate:
        uint64_t bits_per_s
        uint32_t burst_bytes

    cdef struct dco_marking:
        dco_ecn ecn
        bint dscp

    enum:
        DCO_LIMIT_INACTIVE
        DCO_LIMITS

    cdef struct dco_limits:
        uint32_t given
        uint64_t value[1]  # DCO_LIMITS of them
        uint64_t inactive_bytes

    cdef struct dco_limits_state:
        uint32_t armed
        uint64_t due[1]  # DCO_LIMITS of them
        uint64_t active_at

    cdef struct dco_peer_config:
        uint32_t present
        uint32_t id
        uint32_t tx_id
        uint64_t transport
        dco_address remote
        dco_address local
        uint8_t vpn_ipv4[4]
        uint8_t vpn_ipv6[16]
        uint32_t keepalive_interval_s
        uint32_t keepalive_timeout_s
        dco_rate tx_rate
        dco_rate rx_rate
        dco_source_check source_check
        dco_marking marking
        dco_limits limits
        uint32_t mss_clamp
        uint32_t path_limit
        dco_measure mss_measure
        bint no_groups

    cdef struct dco_peer_stats:
        pass

    cdef struct dco_peer_info:
        dco_peer_ref ref
        dco_peer_config config
        dco_peer_stats stats
        uint64_t last_received_ns
        uint64_t last_sent_ns
        uint64_t now_ns
        uint64_t keepalive_set_ns
        dco_limits_state limits
        uint32_t path_mtu
        uint32_t mss
        uint32_t learned
        uint64_t learned_until_ns

    cdef struct dco_key_config:
        uint8_t key_id
        dco_cipher cipher
        const uint8_t *encrypt_key
        const uint8_t *decrypt_key
        size_t encrypt_key_size
        size_t decrypt_key_size
        uint8_t encrypt_nonce_tail[8]
        uint8_t decrypt_nonce_tail[8]
        uint64_t first_packet_id
        uint32_t future_epochs
        uint32_t first_epoch
        size_t epoch_key_size

    cdef struct dco_key_info:
        uint8_t key_id
        dco_cipher cipher
        uint8_t key_size
        uint64_t packets_sealed
        uint64_t usage
        uint32_t send_epoch
        uint32_t receive_epoch
        bint vaes_gcm

    cdef struct dco_event:
        int kind
        uint64_t sequence
        dco_peer_ref peer
        dco_address remote
        dco_address local
        uint8_t key_id
        uint32_t limits
        int reason
        dco_peer_stats stats
        uint64_t transport
        int error

    cdef struct dco_control_packet:
        uint64_t sequence
        uint64_t transport
        int64_t peer_id
        dco_address remote
        dco_address local
        size_t size

    cdef struct dco_engine_stats:
        uint64_t drops[1]  # DCO_DROP_COUNT of them
        uint64_t tx_batches[1]  # DCO_BATCH_BUCKETS of them
        uint64_t rx_batches[1]
        uint64_t peers
        uint64_t transports
        uint64_t retired

    int dco_engine_create(const dco_engine_config *config, dco_engine **engine)
    int dco_engine_open_tun(dco_engine *engine, const char *name, int netns_fd, bint existing)
    int dco_engine_adopt_tun(dco_engine *engine, const int *fds, unsigned queues)
    int dco_engine_start(dco_engine *engine)
    void dco_engine_close(dco_engine *engine)
    void dco_engine_free(dco_engine *engine)
    void dco_engine_freeze(dco_engine *engine)
    void dco_engine_thaw(dco_engine *engine)
    void dco_engine_forget(dco_engine *engine)
    int dco_engine_event_fd(dco_engine *engine)
    int dco_engine_control_fd(dco_engine *engine)
    int dco_engine_wait(dco_engine *engine, int timeout_ms)
    int dco_engine_set_offloads(dco_engine *engine, uint32_t offloads)
    int dco_engine_offloads(dco_engine *engine, uint32_t *allowed, uint32_t *active)
    int dco_engine_set_source_check(dco_engine *engine, dco_source_check check)
    int dco_engine_stats_read "dco_engine_stats" (dco_engine *engine, dco_engine_stats *stats)
    int dco_engine_tun_info(dco_engine *engine, dco_tun_info *info)
    int dco_engine_tun_namespace(dco_engine *engine)
    int dco_engine_set_persistent(dco_engine *engine, bint on)
    int dco_engine_set_owner(dco_engine *engine, uint32_t user)

    int dco_transport_attach_udp(dco_engine *engine, int fd, const dco_transport_config *config,
                                 uint64_t *transport)
    int dco_transport_attach_tcp(dco_engine *engine, int fd, const dco_transport_config *config,
                                 uint64_t *transport)
    int dco_transport_listen_tcp(dco_engine *engine, int fd, const dco_listener_config *config,
                                 uint64_t *transport)
    int dco_transport_detach(dco_engine *engine, uint64_t transport)
    int dco_transport_send(dco_engine *engine, uint64_t transport, const void *data, size_t size,
                           const dco_address *remote, const dco_address *local)
    int dco_transport_query(dco_engine *engine, uint64_t transport, dco_transport_info *info)

    int dco_peer_add(dco_engine *engine, const dco_peer_config *config, uint64_t *generation)
    int dco_peer_set(dco_engine *engine, dco_peer_ref ref, const dco_peer_config *config)
    int dco_peer_delete(dco_engine *engine, dco_peer_ref ref)
    int dco_peer_send(dco_engine *engine, dco_peer_ref ref, const void *data, size_t size)
    int dco_peer_query(dco_engine *engine, dco_peer_ref ref, dco_peer_info *info)
    long dco_peer_list(dco_engine *engine, dco_peer_info *infos, size_t capacity)

    int dco_key_install(dco_engine *engine, dco_peer_ref ref, dco_slot slot,
                        const dco_key_config *config)
    int dco_key_swap(dco_engine *engine, dco_peer_ref ref)
    int dco_key_delete(dco_engine *engine, dco_peer_ref ref, dco_slot slot)
    int dco_key_query(dco_engine *engine, dco_peer_ref ref, dco_slot slot, dco_key_info *info)

    cdef struct dco_key_state:
        uint8_t key_id
        dco_cipher cipher
        uint8_t key_size
        uint32_t future_epochs
        uint8_t encrypt[32]
        uint8_t decrypt[32]
        uint8_t encrypt_nonce_tail[8]
        uint8_t decrypt_nonce_tail[8]
        uint32_t send_epoch
        uint32_t receive_epoch
        uint64_t next_packet_id
        uint64_t newest_packet_id
        uint64_t packets_sealed
        uint64_t usage
        uint64_t open_usage
        uint64_t forgeries

    cdef struct dco_option:
        int level
        int name
        int saved

    cdef struct dco_transport_state:
        int kind
        bint df
        bint accepted
        bint heard
        bint held
        uint32_t send_buffer
        uint32_t receive_buffer
        uint32_t options
        dco_option option[1]  # DCO_OPTIONS_MAX of them
        dco_listener_config listener
        uint64_t listener_timeout_us
        uint32_t tail
        uint32_t rest
        uint32_t control
        uint32_t data
        uint32_t sockets
        int fd[1]  # DCO_WORKERS_MAX of them

    int dco_engine_halt(dco_engine *engine)
    int dco_engine_tun_queue(dco_engine *engine, unsigned queue)
    int dco_key_export(dco_engine *engine, dco_peer_ref ref, dco_slot slot, uint64_t reserve,
                       dco_key_state *state)
    int dco_key_import(dco_engine *engine, dco_peer_ref ref, dco_slot slot,
                       const dco_key_state *state)
    int dco_peer_import(dco_engine *engine, dco_peer_ref ref, const dco_peer_info *info)
    int dco_transport_export(dco_engine *engine, uint64_t transport, dco_transport_state *state,
                             uint8_t *bytes, size_t capacity)
    int dco_transport_import(dco_engine *engine, const dco_transport_state *state,
                             const uint8_t *bytes, uint64_t *transport)

    int dco_route_add(dco_engine *engine, const dco_prefix *prefix, dco_peer_ref ref)
    int dco_route_delete(dco_engine *engine, const dco_prefix *prefix)
    cdef struct dco_reserved:
        dco_prefix prefix
        bint group

    int dco_engine_reserve(dco_engine *engine, const dco_reserved *reserved, size_t count)
    int dco_engine_set_forwarding(dco_engine *engine, dco_forwarding forwarding)
    int dco_engine_set_multicast(dco_engine *engine, uint32_t copies_per_s)
    int dco_peer_permit(dco_engine *engine, dco_peer_ref ref, const uint64_t *generations,
                        size_t count)
    int dco_route_lookup(dco_engine *engine, const dco_address *address, dco_peer_ref *ref)

    int dco_control_receive(dco_engine *engine, dco_control_packet *packet, void *data,
                            size_t capacity)
    int dco_event_poll(dco_engine *engine, dco_event *events, size_t capacity)

    cdef struct dco_trace_config:
        uint32_t points
        bint drops_only
        uint32_t share
        uint32_t snap
        uint32_t ring_size
        const dco_peer_ref *peers
        size_t peer_count

    cdef struct dco_trace_record:
        uint64_t time_ns
        int point
        dco_drop drop
        dco_peer_ref peer
        int format
        uint64_t packet_id
        uint8_t key_id
        bint stream
        dco_address remote
        dco_address local
        uint32_t size
        uint32_t kept
        uint32_t packets
        uint32_t lost

    int dco_trace_start(dco_engine *engine, const dco_trace_config *config, int *fd)
    int dco_trace_stop(dco_engine *engine)
    int dco_trace_read(dco_engine *engine, dco_trace_record *record, void *data, size_t capacity)
    int dco_trace_lost(dco_engine *engine, uint64_t *lost)

    const char *dco_drop_name(dco_drop reason)
    const char *dco_drop_text(dco_drop reason)
