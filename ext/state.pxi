# A halted engine's state as plain values, and back: what `dco.h` has as structs are dicts here, whose
# keys are the names of the fields. Secrets are bytes.


def halt(Engine self):
    """Stops the threads, for good or until `start`."""
    cdef dco_engine *engine = self.get()
    cdef int result
    with nogil:
        result = dco_engine_halt(engine)
    check(result)


def tun_queues(Engine self):
    """The engine's own descriptors of the interface, one for each queue."""
    cdef list fds = []
    cdef int fd = 0
    while fd >= 0:
        fd = dco_engine_tun_queue(self.get(), <unsigned>len(fds))
        if fd >= 0:
            fds.append(fd)
    return fds


cdef object key_state_out(const dco_key_state *state):
    return {
        "key_id": state.key_id, "cipher": <int>state.cipher, "key_size": state.key_size,
        "future_epochs": state.future_epochs, "send_epoch": state.send_epoch,
        "receive_epoch": state.receive_epoch, "next_packet_id": state.next_packet_id,
        "newest_packet_id": state.newest_packet_id, "packets_sealed": state.packets_sealed,
        "usage": state.usage, "open_usage": state.open_usage, "forgeries": state.forgeries,
        "encrypt": state.encrypt[:32], "decrypt": state.decrypt[:32],
        "encrypt_nonce_tail": state.encrypt_nonce_tail[:8],
        "decrypt_nonce_tail": state.decrypt_nonce_tail[:8],
    }


cdef int bytes_in(uint8_t *target, object value, Py_ssize_t size) except -1:
    cdef bytes data = value
    if len(data) != size:
        raise OSError(EINVAL, f"{size} bytes were expected, not {len(data)}")
    memcpy(target, <const char *>data, size)
    return 0


cdef int key_state_in(dco_key_state *state, dict values) except -1:
    memset(state, 0, sizeof(state[0]))
    state.key_id = values["key_id"]
    state.cipher = <dco_cipher><int>values["cipher"]
    state.key_size = values["key_size"]
    state.future_epochs = values["future_epochs"]
    state.send_epoch = values["send_epoch"]
    state.receive_epoch = values["receive_epoch"]
    state.next_packet_id = values["next_packet_id"]
    state.newest_packet_id = values["newest_packet_id"]
    state.packets_sealed = values["packets_sealed"]
    state.usage = values["usage"]
    state.open_usage = values["open_usage"]
    state.forgeries = values["forgeries"]
    bytes_in(state.encrypt, values["encrypt"], 32)
    bytes_in(state.decrypt, values["decrypt"], 32)
    bytes_in(state.encrypt_nonce_tail, values["encrypt_nonce_tail"], 8)
    bytes_in(state.decrypt_nonce_tail, values["decrypt_nonce_tail"], 8)
    return 0


def export_key(Engine self, uint32_t peer_id, uint64_t generation, int slot, uint64_t reserve):
    """The key in the slot; None: it is empty."""
    cdef dco_engine *engine = self.get()
    cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
    cdef dco_key_state state
    cdef int result
    with nogil:
        result = dco_key_export(engine, ref, <dco_slot>slot, reserve, &state)
    if result == -ENOENT:
        return None
    check(result)
    try:
        return key_state_out(&state)
    finally:
        OPENSSL_cleanse(&state, sizeof(state))


def import_key(Engine self, uint32_t peer_id, uint64_t generation, int slot, dict values):
    cdef dco_engine *engine = self.get()
    cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
    cdef dco_key_state state
    cdef int result
    key_state_in(&state, values)
    with nogil:
        result = dco_key_import(engine, ref, <dco_slot>slot, &state)
        OPENSSL_cleanse(&state, sizeof(state))
    check(result)


def export_peer(Engine self, uint32_t peer_id, uint64_t generation):
    """Everything about the peer but its keys and routes."""
    cdef dco_engine *engine = self.get()
    cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
    cdef dco_peer_info info
    cdef int result
    with nogil:
        result = dco_peer_query(engine, ref, &info)
    check(result)
    return {
        "peer_id": info.ref.id, "tx_id": info.config.tx_id, "transport": info.config.transport,
        "remote": address_out(&info.config.remote), "local": address_out(&info.config.local),
        "vpn_ipv4": info.config.vpn_ipv4[:4], "vpn_ipv6": info.config.vpn_ipv6[:16],
        "keepalive": [info.config.keepalive_interval_s, info.config.keepalive_timeout_s],
        "stats": dict(zip(PEER_COUNTERS, counters(&info.stats, CORE_PEER_COUNTERS))),
        "last_received_ns": info.last_received_ns, "last_sent_ns": info.last_sent_ns,
        "keepalive_set_ns": info.keepalive_set_ns, "settings": settings_out(&info.config),
        "limits": [info.limits.armed, info.limits.active_at,
                   *[info.limits.due[limit] for limit in range(DCO_LIMITS)]],
        "learned": [info.learned, info.learned_until_ns],
    }


def import_peer(Engine self, uint32_t peer_id, uint64_t generation, dict values):
    """Counters and times, for a peer that was added."""
    cdef dco_engine *engine = self.get()
    cdef dco_peer_ref ref = dco_peer_ref(peer_id, generation)
    cdef dco_peer_info info
    cdef uint64_t *stats = <uint64_t *>&info.stats
    cdef int result
    memset(&info, 0, sizeof(info))
    for i, name in enumerate(PEER_COUNTERS):
        stats[i] = values["stats"].get(name, 0)
    info.last_received_ns = values["last_received_ns"]
    info.last_sent_ns = values["last_sent_ns"]
    info.keepalive_set_ns = values["keepalive_set_ns"]
    if "limits" in values:  # not in states of older releases
        info.limits.armed, info.limits.active_at, *due = values["limits"]
        for limit, value in enumerate(due[:DCO_LIMITS]):
            info.limits.due[limit] = value
    info.learned, info.learned_until_ns = values.get("learned", (0, 0))
    with nogil:
        result = dco_peer_import(engine, ref, &info)
    check(result)


def export_transport(Engine self, uint64_t transport):
    """(values, the engine's own descriptors); None: it has failed."""
    cdef dco_engine *engine = self.get()
    cdef dco_transport_state state
    cdef bytearray data = bytearray(0)
    cdef uint8_t *bytes_ = data
    cdef size_t size = 0
    cdef int result
    while True:
        with nogil:
            result = dco_transport_export(engine, transport, &state, bytes_, size)
        if result != -EMSGSIZE:
            break
        size = <size_t>state.tail + state.rest + state.control + state.data
        data = bytearray(size)
        bytes_ = data
    if result == -ENOENT:
        return None
    check(result)
    values = {
        "kind": state.kind, "df": bool(state.df), "accepted": bool(state.accepted),
        "heard": bool(state.heard), "held": bool(state.held), "send_buffer": state.send_buffer,
        "receive_buffer": state.receive_buffer,
        "options": [[state.option[i].level, state.option[i].name, state.option[i].saved]
                    for i in range(state.options)],
        "trials_max": state.listener.trials_max,
        "trials_per_source_max": state.listener.trials_per_source_max,
        "deadline_s": state.listener.deadline_s,
        "listener_timeout_us": state.listener_timeout_us,
        "sizes": [state.tail, state.rest, state.control, state.data], "bytes": bytes(data),
    }
    return values, [state.fd[i] for i in range(state.sockets)]


def import_transport(Engine self, dict values, fds):
    """The transport's number."""
    cdef dco_engine *engine = self.get()
    cdef dco_transport_state state
    cdef bytes data = values["bytes"]
    cdef const uint8_t *bytes_ = data
    cdef uint64_t transport = 0
    cdef int result
    memset(&state, 0, sizeof(state))
    options = values["options"]
    if len(options) > DCO_OPTIONS_MAX or not 1 <= len(fds) <= DCO_WORKERS_MAX:
        raise OSError(EINVAL, "more options or sockets than there can be")
    state.kind = values["kind"]
    state.df, state.accepted = values["df"], values["accepted"]
    state.heard, state.held = values["heard"], values["held"]
    state.send_buffer, state.receive_buffer = values["send_buffer"], values["receive_buffer"]
    state.options = len(options)
    for i, (level, name, saved) in enumerate(options):
        state.option[i].level, state.option[i].name, state.option[i].saved = level, name, saved
    state.listener.trials_max = values["trials_max"]
    state.listener.trials_per_source_max = values["trials_per_source_max"]
    state.listener.deadline_s = values["deadline_s"]
    state.listener_timeout_us = values["listener_timeout_us"]
    state.tail, state.rest, state.control, state.data = values["sizes"]
    if sum(values["sizes"]) != len(data):
        raise OSError(EINVAL, "the bytes of a connection are not all there")
    state.sockets = len(fds)
    for i, fd in enumerate(fds):
        state.fd[i] = fd
    with nogil:
        result = dco_transport_import(engine, &state, bytes_, &transport)
    check(result)
    return transport
