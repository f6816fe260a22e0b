# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The engine for Python: handles in, batches and events out, every engine call without the GIL.

One method per call of `dco.h`, in its order, on plain values. An address is `(ip, port, scope)`
with 4 or 16 bytes of ip, or None. A negative errno becomes `OSError(errno, text)`; the caller
knows what was asked and says it better. `ovpn_dco.backend.userspace` is the only importer."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBADF, EINTR, EINVAL, EMSGSIZE, ENOENT
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strlen

from dco cimport *

import os


cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_cleanse(void *data, size_t size)

cdef extern from "<sys/socket.h>":
    enum:
        AF_INET
        AF_INET6

# The X-macro tables as arrays: counters stand first in their structs, in the tables' order.
cdef extern from *:
    """
    #include <assert.h>
    #include "dco.h"
    #define X(name) #name,
    static const char *const core_peer_names[] = { DCO_PEER_COUNTERS(X) };
    static const char *const core_engine_names[] = { DCO_ENGINE_COUNTERS(X) };
    #undef X
    enum {
        CORE_PEER_COUNTERS = sizeof core_peer_names / sizeof core_peer_names[0],
        CORE_ENGINE_COUNTERS = sizeof core_engine_names / sizeof core_engine_names[0],
    };
    static_assert(sizeof(struct dco_peer_stats) == CORE_PEER_COUNTERS * sizeof(uint64_t),
                  "peer statistics are nothing but their counters");
    static_assert(offsetof(struct dco_engine_stats, drops) ==
                  CORE_ENGINE_COUNTERS * sizeof(uint64_t), "counters stand before the drops");
    """
    const char *const *core_peer_names
    const char *const *core_engine_names
    enum:
        CORE_PEER_COUNTERS
        CORE_ENGINE_COUNTERS


PEER_COUNTERS = tuple([core_peer_names[i].decode() for i in range(CORE_PEER_COUNTERS)])
ENGINE_COUNTERS = tuple([core_engine_names[i].decode() for i in range(CORE_ENGINE_COUNTERS)])
DROPS = tuple([
    (dco_drop_name(<dco_drop>i).decode(), dco_drop_text(<dco_drop>i).decode())
    for i in range(1, DCO_DROP_COUNT)
])
EVENT_PEER_DELETED = <int>DCO_EVENT_PEER_DELETED
EVENT_PEER_FLOATED = <int>DCO_EVENT_PEER_FLOATED
EVENT_PEER_FLOAT_REFUSED = <int>DCO_EVENT_PEER_FLOAT_REFUSED
EVENT_KEY_SOON = <int>DCO_EVENT_KEY_SOON
EVENT_KEY_EXHAUSTED = <int>DCO_EVENT_KEY_EXHAUSTED
EVENT_TRANSPORT_FAILED = <int>DCO_EVENT_TRANSPORT_FAILED
EVENT_INTERFACE_GONE = <int>DCO_EVENT_INTERFACE_GONE
EVENT_LIMIT_REACHED = <int>DCO_EVENT_LIMIT_REACHED
TABLE_COLUMNS = ("id", "generation", *PEER_COUNTERS, "last_received_ns", "last_sent_ns")
BATCH_BUCKETS = <int>DCO_BATCH_BUCKETS
OFFLOAD_ALL = <int>DCO_OFFLOAD_ALL
PEERS_DEFAULT = <int>DCO_PEERS_DEFAULT
SOCKET_BUFFER = <int>DCO_SOCKET_BUFFER
TRANSPORTS_MAX = <int>DCO_TRANSPORTS_MAX
WORKERS_MAX = <int>DCO_WORKERS_MAX
EPOCH_FUTURES_MAX = <int>DCO_EPOCH_FUTURES_MAX
TRACE_SNAP_MAX = <int>DCO_TRACE_SNAP_MAX
TRACE_PEERS_MAX = <int>DCO_TRACE_PEERS_MAX

cdef enum:
    EVENT_BATCH = 64


include "convert.pxi"


cdef class Engine:
    """One engine. Any thread may call; the memory lives as long as any reference to this object,
    so that a call in flight while another thread closes finds an engine that answers EBADF."""

    cdef dco_engine *engine
    cdef bint closed
    cdef bint forgotten
    cdef object __weakref__

    def __cinit__(self, *, int mode, int source_check, uint32_t max_peers, uint32_t offloads,
                  uint32_t workers=1, bint single_thread=False, bint unreachable=False):
        cdef dco_engine_config config
        cdef int result
        memset(&config, 0, sizeof(config))
        config.mode = <dco_mode>mode
        config.source_check = <dco_source_check>source_check
        config.workers = workers
        config.single_thread = single_thread
        config.unreachable = unreachable
        config.max_peers = max_peers
        config.offloads = offloads
        with nogil:
            result = dco_engine_create(&config, &self.engine)
        check(result)

    def __dealloc__(self):
        # A forked child has neither the threads nor a sane lock state: it gave everything that
        # matters back in forget(), and the rest goes with the process.
        if self.engine != NULL and not self.forgotten:
            with nogil:
                dco_engine_free(self.engine)

    cdef dco_engine *get(self) except NULL:
        if self.closed:
            raise OSError(EBADF, "device is closed")
        return self.engine

    # Lifecycle

    def open_tun(self, bytes name, int netns_fd, bint existing):
        cdef dco_engine *engine = self.get()
        cdef const char *text = name
        cdef int result
        with nogil:
            result = dco_engine_open_tun(engine, text, netns_fd, existing)
        check(result)

    def adopt_tun(self, fds):
        """Descriptors, the queues of one interface."""
        cdef dco_engine *engine = self.get()
        cdef int queue[DCO_WORKERS_MAX]
        cdef unsigned queues = len(fds)
        cdef int result
        if queues > DCO_WORKERS_MAX:
            raise OSError(EINVAL, "more queues than workers")
        for i in range(queues):
            queue[i] = fds[i]
        with nogil:
            result = dco_engine_adopt_tun(engine, queue, queues)
        check(result)

    def start(self):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_start(engine)
        check(result)

    def close(self):
        """Stops the threads; returns when they have stopped, also where another thread closes."""
        self.closed = True
        if not self.forgotten:
            with nogil:
                dco_engine_close(self.engine)

    def freeze(self):
        """Before a fork: nothing in it is half changed from here to `thaw` or `forget`."""
        if not self.forgotten:
            with nogil:
                dco_engine_freeze(self.engine)

    def thaw(self):
        """After a fork, in the parent."""
        if not self.forgotten:
            dco_engine_thaw(self.engine)

    def forget(self):
        """In a forked child: gives back what was inherited, without touching the parent's."""
        self.closed = True
        if not self.forgotten:
            self.forgotten = True
            dco_engine_forget(self.engine)

    @property
    def is_closed(self):
        return bool(self.closed)

    def event_fd(self):
        """Readable while events wait."""
        return check(dco_engine_event_fd(self.get()))

    def control_fd(self):
        """Readable while control packets wait."""
        return check(dco_engine_control_fd(self.get()))

    def wait(self, int timeout_ms):
        """Until an event waits; False after the time or a signal. < 0: for ever.

        Not `select.poll`, which would resume the wait after a signal (PEP 475)."""
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_wait(engine, timeout_ms)
        if result == -EINTR:
            PyErr_CheckSignals()
            return False
        return check(result) > 0

    def set_offloads(self, uint32_t offloads):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_offloads(engine, offloads)
        check(result)

    def offloads(self):
        """(allowed, active), masks."""
        cdef dco_engine *engine = self.get()
        cdef uint32_t allowed = 0, active = 0
        cdef int result
        with nogil:
            result = dco_engine_offloads(engine, &allowed, &active)
        check(result)
        return allowed, active

    def set_source_check(self, int check_):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_source_check(engine, <dco_source_check>check_)
        check(result)

    def stats(self):
        """(counters, drops without reason 0, tx batches, rx batches, peers, transports, retired)."""
        cdef dco_engine *engine = self.get()
        cdef dco_engine_stats stats
        cdef int result
        with nogil:
            result = dco_engine_stats_read(engine, &stats)
        check(result)
        return (
            counters(&stats, CORE_ENGINE_COUNTERS),
            counters(stats.drops, DCO_DROP_COUNT)[1:],
            counters(stats.tx_batches, DCO_BATCH_BUCKETS),
            counters(stats.rx_batches, DCO_BATCH_BUCKETS),
            stats.peers, stats.transports, stats.retired,
        )

    def tun_info(self):
        """(name, ifindex when opened, offloads, queues, owned, existed, present, persistent, vnet)."""
        cdef dco_engine *engine = self.get()
        cdef dco_tun_info info
        cdef int result
        with nogil:
            result = dco_engine_tun_info(engine, &info)
        check(result)
        return (
            info.name[:strlen(info.name)], info.ifindex, info.offloads, info.queues, info.owned,
            info.existed, info.present, info.persistent, info.vnet,
        )

    def tun_namespace(self):
        """A new descriptor of the namespace where the interface is now."""
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_tun_namespace(engine)
        return check(result)

    def set_persistent(self, bint on):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_persistent(engine, on)
        check(result)

    def set_owner(self, uint32_t user):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_owner(engine, user)
        check(result)

    # Transports

    def attach_udp(self, int fd, *, bint df, uint32_t send_buffer, uint32_t receive_buffer):
        cdef dco_engine *engine = self.get()
        cdef dco_transport_config config
        cdef uint64_t transport = 0
        cdef int result
        memset(&config, 0, sizeof(config))
        config.df = df
        config.send_buffer = send_buffer
        config.receive_buffer = receive_buffer
        with nogil:
            result = dco_transport_attach_udp(engine, fd, &config, &transport)
        check(result)
        return transport

    def attach_tcp(self, int fd, *, uint32_t send_buffer, uint32_t receive_buffer):
        cdef dco_engine *engine = self.get()
        cdef dco_transport_config config
        cdef uint64_t transport = 0
        cdef int result
        memset(&config, 0, sizeof(config))
        config.send_buffer = send_buffer
        config.receive_buffer = receive_buffer
        with nogil:
            result = dco_transport_attach_tcp(engine, fd, &config, &transport)
        check(result)
        return transport

    def listen_tcp(self, int fd, *, uint32_t trials_max, uint32_t trials_per_source_max,
                   uint32_t deadline_s):
        cdef dco_engine *engine = self.get()
        cdef dco_listener_config config
        cdef uint64_t transport = 0
        cdef int result
        config.trials_max = trials_max
        config.trials_per_source_max = trials_per_source_max
        config.deadline_s = deadline_s
        with nogil:
            result = dco_transport_listen_tcp(engine, fd, &config, &transport)
        check(result)
        return transport

    def detach(self, uint64_t transport):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_transport_detach(engine, transport)
        check(result)

    def send_control(self, uint64_t transport, const uint8_t[::1] data, remote, local):
        cdef dco_engine *engine = self.get()
        cdef dco_address to, source
        cdef size_t size = data.shape[0]
        cdef const uint8_t *bytes_ = &data[0] if size else NULL
        cdef int result
        address_in(&to, remote)
        address_in(&source, local)
        with nogil:
            result = dco_transport_send(engine, transport, bytes_, size,
                                        &to if to.family else NULL,
                                        &source if source.family else NULL)
        check(result)

    def query_transport(self, uint64_t transport):
        """(kind, sockets, local, remote, send buffer, receive buffer, offloads, peers, overflows,
        icmp errors, waiting, trials, accepted, refused, expired, failed)."""
        cdef dco_engine *engine = self.get()
        cdef dco_transport_info info
        cdef int result
        with nogil:
            result = dco_transport_query(engine, transport, &info)
        check(result)
        return (
            info.kind, info.sockets, address_out(&info.local), address_out(&info.remote),
            info.send_buffer, info.receive_buffer, info.offloads, info.peers,
            info.receive_overflows, info.icmp_errors, info.waiting, info.trials, info.accepted,
            info.refused, info.expired, info.failed,
        )

    # Peers

    def add_peer(self, uint32_t peer_id, uint64_t transport, *, tx_id=None, remote=None,
                 local=None, vpn_ipv4=None, vpn_ipv6=None, keepalive=None,
                 settings=None):
        """The new peer's generation."""
        cdef dco_engine *engine = self.get()
        cdef dco_peer_config config
        cdef uint64_t generation = 0
        cdef int result
        memset(&config, 0, sizeof(config))
        config.id = peer_id
        config.transport = transport
        peer_in(&config, tx_id, remote, local, vpn_ipv4, vpn_ipv6, keepalive, settings)
        with nogil:
            result = dco_peer_add(engine, &config, &generation)
        check(result)
        return generation

    def set_peer(self, uint32_t peer_id, uint64_t generation, *, tx_id=None, remote=None,
                 local=None, vpn_ipv4=None, vpn_ipv6=None, keepalive=None,
                 settings=None):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_peer_config config
        cdef int result
        memset(&config, 0, sizeof(config))
        config.id = peer_id
        peer_in(&config, tx_id, remote, local, vpn_ipv4, vpn_ipv6, keepalive, settings)
        with nogil:
            result = dco_peer_set(engine, ref, &config)
        check(result)

    def delete_peer(self, uint32_t peer_id, uint64_t generation):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef int result
        with nogil:
            result = dco_peer_delete(engine, ref)
        check(result)

    def send_message(self, uint32_t peer_id, uint64_t generation, const uint8_t[::1] data):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef size_t size = data.shape[0]
        cdef const uint8_t *bytes_ = &data[0] if size else NULL
        cdef int result
        with nogil:
            result = dco_peer_send(engine, ref, bytes_, size)
        check(result)

    def query_peer(self, uint32_t peer_id, uint64_t generation):
        """(id, generation, tx id, transport, remote, local, vpn IPv4, vpn IPv6, interval, timeout,
        counters, last received ns, last sent ns, now ns, settings by name,
        path MTU, MSS)."""
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_peer_info info
        cdef int result
        with nogil:
            result = dco_peer_query(engine, ref, &info)
        check(result)
        return peer_out(&info)

    cdef dco_peer_info *list(self, size_t *count) except? NULL:
        # Peers may come between the calls: ask with room to spare until the answer fits.
        cdef dco_engine *engine = self.get()
        cdef dco_peer_info *infos = NULL
        cdef size_t capacity = 0
        cdef long found
        while True:
            with nogil:
                found = dco_peer_list(engine, infos, capacity)
            if found < 0:
                free(infos)
                check(<int>found)
            if <size_t>found <= capacity:
                count[0] = found
                return infos
            free(infos)
            capacity = <size_t>found + <size_t>found // 8 + 8
            infos = <dco_peer_info *>calloc(capacity, sizeof(dco_peer_info))
            if infos == NULL:
                raise MemoryError

    def list_peers(self):
        """(id, generation) of all."""
        cdef size_t count = 0
        cdef dco_peer_info *infos = self.list(&count)
        try:
            return [(infos[i].ref.id, infos[i].ref.generation) for i in range(count)]
        finally:
            free(infos)

    def peer_table(self):
        """(count, one bytearray of unsigned 64-bit columns in the order of TABLE_COLUMNS)."""
        cdef size_t count = 0, i
        cdef int column
        cdef dco_peer_info *infos = self.list(&count)
        cdef const uint64_t *values
        cdef uint64_t *cells
        cdef uint8_t[::1] view
        try:
            table = bytearray(count * len(TABLE_COLUMNS) * sizeof(uint64_t))
            if count:
                view = table
                cells = <uint64_t *>&view[0]
                for i in range(count):
                    values = <const uint64_t *>&infos[i].stats
                    cells[i] = infos[i].ref.id
                    cells[count + i] = infos[i].ref.generation
                    for column in range(CORE_PEER_COUNTERS):
                        cells[<size_t>(2 + column) * count + i] = values[column]
                    cells[(2 + CORE_PEER_COUNTERS) * count + i] = infos[i].last_received_ns
                    cells[(3 + CORE_PEER_COUNTERS) * count + i] = infos[i].last_sent_ns
            return count, table
        finally:
            free(infos)

    # Packets between peers

    def set_forwarding(self, int forwarding):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_forwarding(engine, <dco_forwarding>forwarding)
        check(result)

    def set_multicast(self, uint32_t copies_per_s):
        cdef dco_engine *engine = self.get()
        cdef int result
        with nogil:
            result = dco_engine_set_multicast(engine, copies_per_s)
        check(result)

    def permit(self, uint32_t peer_id, uint64_t generation, generations):
        """Whom the peer may reach, by generation."""
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef list ascending = sorted(generations)
        cdef size_t count = len(ascending)
        cdef uint64_t *numbers = <uint64_t *>malloc((count + 1) * sizeof(uint64_t))
        cdef int result
        if numbers == NULL:
            raise MemoryError
        try:
            for i in range(count):
                numbers[i] = ascending[i]
            with nogil:
                result = dco_peer_permit(engine, ref, numbers, count)
        finally:
            free(numbers)
        check(result)

    def reserve(self, prefixes):
        """(ip, prefix length, whether it is broadcast) of each that is to be nobody's."""
        cdef dco_engine *engine = self.get()
        cdef size_t count = len(prefixes)
        cdef dco_reserved *reserved = <dco_reserved *>calloc(count + 1, sizeof(dco_reserved))
        cdef int result
        if reserved == NULL:
            raise MemoryError
        try:
            for i, (ip, length, group) in enumerate(prefixes):
                prefix_in(&reserved[i].prefix, ip, length)
                reserved[i].group = group
            with nogil:
                result = dco_engine_reserve(engine, reserved, count)
        finally:
            free(reserved)
        check(result)

    # Keys

    def install_key(self, uint32_t peer_id, uint64_t generation, int slot, *, uint8_t key_id,
                    int cipher, const uint8_t[::1] encrypt_key, const uint8_t[::1] encrypt_tail,
                    const uint8_t[::1] decrypt_key, const uint8_t[::1] decrypt_tail,
                    uint64_t first_packet_id=0):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_key_config config
        cdef int result
        if encrypt_tail.shape[0] != 8 or decrypt_tail.shape[0] != 8:
            raise OSError(EINVAL, "a nonce tail has 8 bytes")
        if encrypt_key.shape[0] == 0 or decrypt_key.shape[0] == 0:
            raise OSError(EINVAL, "a key is not empty")
        memset(&config, 0, sizeof(config))
        config.key_id = key_id
        config.cipher = <dco_cipher>cipher
        config.encrypt_key = &encrypt_key[0]
        config.encrypt_key_size = encrypt_key.shape[0]
        config.decrypt_key = &decrypt_key[0]
        config.decrypt_key_size = decrypt_key.shape[0]
        memcpy(config.encrypt_nonce_tail, &encrypt_tail[0], 8)
        memcpy(config.decrypt_nonce_tail, &decrypt_tail[0], 8)
        config.first_packet_id = first_packet_id
        with nogil:
            result = dco_key_install(engine, ref, <dco_slot>slot, &config)
            OPENSSL_cleanse(&config, sizeof(config))
        check(result)

    def install_epoch_key(self, uint32_t peer_id, uint64_t generation, int slot, *,
                          uint8_t key_id, int cipher, size_t key_size,
                          const uint8_t[::1] encrypt_secret, const uint8_t[::1] decrypt_secret,
                          uint32_t future_epochs, uint32_t first_epoch=0,
                          uint64_t first_packet_id=0):
        """A key in the epoch format, with data keys of `key_size` bytes."""
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_key_config config
        cdef int result
        if encrypt_secret.shape[0] != 32 or decrypt_secret.shape[0] != 32:
            raise OSError(EINVAL, "the secret of an epoch has 32 bytes")
        if future_epochs == 0:
            raise OSError(EINVAL, "a receiver holds one future epoch at least")
        memset(&config, 0, sizeof(config))
        config.key_id = key_id
        config.cipher = <dco_cipher>cipher
        config.encrypt_key = &encrypt_secret[0]
        config.encrypt_key_size = encrypt_secret.shape[0]
        config.decrypt_key = &decrypt_secret[0]
        config.decrypt_key_size = decrypt_secret.shape[0]
        config.first_packet_id = first_packet_id
        config.future_epochs = future_epochs
        config.first_epoch = first_epoch
        config.epoch_key_size = key_size
        with nogil:
            result = dco_key_install(engine, ref, <dco_slot>slot, &config)
        check(result)

    def swap_keys(self, uint32_t peer_id, uint64_t generation):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef int result
        with nogil:
            result = dco_key_swap(engine, ref)
        check(result)

    def delete_key(self, uint32_t peer_id, uint64_t generation, int slot):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef int result
        with nogil:
            result = dco_key_delete(engine, ref, <dco_slot>slot)
        check(result)

    def query_key(self, uint32_t peer_id, uint64_t generation, int slot):
        """(key id, cipher, key bytes, packets sealed, usage, send epoch, receive epoch, whether our
        own AES-GCM), the epochs 0 in the classic format."""
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_key_info info
        cdef int result
        with nogil:
            result = dco_key_query(engine, ref, <dco_slot>slot, &info)
        check(result)
        return (info.key_id, <int>info.cipher, info.key_size, info.packets_sealed,
                info.usage, info.send_epoch, info.receive_epoch, bool(info.vaes_gcm))

    # Routes

    def add_route(self, bytes ip, int length, uint32_t peer_id, uint64_t generation):
        cdef dco_engine *engine = self.get()
        cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
        cdef dco_prefix prefix
        cdef int result
        prefix_in(&prefix, ip, length)
        with nogil:
            result = dco_route_add(engine, &prefix, ref)
        check(result)

    def delete_route(self, bytes ip, int length):
        cdef dco_engine *engine = self.get()
        cdef dco_prefix prefix
        cdef int result
        prefix_in(&prefix, ip, length)
        with nogil:
            result = dco_route_delete(engine, &prefix)
        check(result)

    def lookup_route(self, bytes ip):
        """(peer id, generation) of who owns the address."""
        cdef dco_engine *engine = self.get()
        cdef dco_address address
        cdef dco_peer_ref ref
        cdef int result
        address_in(&address, (ip, 0, 0))
        with nogil:
            result = dco_route_lookup(engine, &address, &ref)
        check(result)
        return ref.id, ref.generation

    # Control packets and events

    def receive_control(self, size_t maximum):
        """Up to `maximum` of (sequence, transport, peer id or -1, remote, local, data)."""
        cdef dco_engine *engine = self.get()
        cdef dco_control_packet packet
        cdef void *buffer = malloc(DCO_RECV_BUFFER)
        cdef list packets = []
        cdef int result = 1
        if buffer == NULL:
            raise MemoryError
        try:
            while <size_t>len(packets) < maximum:
                with nogil:
                    result = dco_control_receive(engine, &packet, buffer, DCO_RECV_BUFFER)
                if check(result) == 0:
                    break
                packets.append((
                    packet.sequence, packet.transport, packet.peer_id,
                    address_out(&packet.remote), address_out(&packet.local),
                    PyBytes_FromStringAndSize(<const char *>buffer, packet.size),
                ))
        finally:
            free(buffer)
        return packets

    def poll_events(self, size_t maximum):
        """Up to `maximum` of (kind, sequence, peer id, generation, remote, local, key id, reason,
        counters, transport, error, limits)."""
        cdef dco_engine *engine = self.get()
        cdef dco_event batch[EVENT_BATCH]
        cdef list events = []
        cdef size_t room
        cdef int i, taken = 0
        while <size_t>len(events) < maximum:
            room = min(maximum - <size_t>len(events), <size_t>EVENT_BATCH)
            with nogil:
                taken = dco_event_poll(engine, batch, room)
            for i in range(check(taken)):
                events.append(event_out(&batch[i]))
            if <size_t>taken < room:
                break
        return events


include "state.pxi"
include "trace.pxi"
include "bench/loops.pxi"
include "facade.pxi"
