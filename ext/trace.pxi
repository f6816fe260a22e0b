# Packets with what became of them, on their way to whoever has asked for a trace.


def trace_start(Engine self, *, uint32_t points, bint drops_only, uint32_t share, uint32_t snap,
                uint32_t ring_size, list peers):
    """The descriptor that is readable while records wait. `peers` are (id, generation)."""
    cdef dco_engine *engine = self.get()
    cdef dco_peer_ref refs[DCO_TRACE_PEERS_MAX]
    cdef dco_trace_config config
    cdef int result, fd = -1
    if len(peers) > DCO_TRACE_PEERS_MAX:
        raise OSError(EINVAL, "too many peers")
    for i, (peer_id, generation) in enumerate(peers):
        refs[i] = dco_peer_ref(peer_id, generation)
    config.points = points
    config.drops_only = drops_only
    config.share = share
    config.snap = snap
    config.ring_size = ring_size
    config.peers = refs
    config.peer_count = len(peers)
    with nogil:
        result = dco_trace_start(engine, &config, &fd)
    check(result)
    return fd


def trace_stop(Engine self):
    """Records that wait can still be read."""
    cdef dco_engine *engine = self.get()
    cdef int result
    with nogil:
        result = dco_trace_stop(engine)
    check(result)


def trace_lost(Engine self):
    """How many records of the present trace, or the last one, found no room."""
    cdef uint64_t lost = 0
    check(dco_trace_lost(self.get(), &lost))
    return lost


cdef tuple trace_out(const dco_trace_record *record, const char *data):
    return (
        record.time_ns, <int>record.point, <int>record.drop, record.peer.id,
        record.peer.generation, <int>record.format, record.packet_id, record.key_id,
        bool(record.stream), address_out(&record.remote), address_out(&record.local), record.size,
        record.packets, record.lost, PyBytes_FromStringAndSize(data, record.kept),
    )


def trace_read(Engine self, size_t maximum):
    """Up to `maximum` of (time ns, point, drop, peer id, generation or 0, format, packet id, key id,
    whether over TCP, remote, local, size, packets, lost, data)."""
    cdef dco_engine *engine = self.get()
    cdef dco_trace_record record
    cdef void *buffer = malloc(DCO_TRACE_SNAP_MAX)
    cdef list records = []
    cdef int result
    if buffer == NULL:
        raise MemoryError
    try:
        while <size_t>len(records) < maximum:
            with nogil:
                result = dco_trace_read(engine, &record, buffer, DCO_TRACE_SNAP_MAX)
            if check(result) == 0:
                break
            records.append(trace_out(&record, <const char *>buffer))
    finally:
        free(buffer)
    return records
