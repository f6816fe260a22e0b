# The codec and the longest-prefix table by themselves, on bytes: for tests and for research.
# Nothing here is on the data path, so everything may copy.

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "codec/checksum.h" nogil:
    uint64_t dco_checksum_add(uint64_t sum, const void *data, size_t size)
    uint16_t dco_checksum_fold(uint64_t sum)

cdef extern from "codec/gso.h" nogil:
    enum:
        DCO_VNET_HEADER
    cdef struct dco_vnet:
        pass
    cdef struct dco_gso:
        pass
    dco_drop dco_gso_begin(dco_gso *gso, const dco_vnet *vnet, uint8_t *packet, size_t size)
    bint dco_gso_next(dco_gso *gso, uint8_t **segment, uint32_t *size)

cdef extern from "codec/gro.h" nogil:
    cdef struct dco_gro_item:
        uint32_t packets
    cdef struct dco_gro:
        uint32_t count
        dco_gro_item item[1]
    void dco_gro_reset(dco_gro *gro, bint tcp, bint udp)
    bint dco_gro_add(dco_gro *gro, uint8_t *packet, uint32_t size, void *owner)
    int dco_gro_finish(dco_gro_item *item, bint with_vnet, iovec *iov)

cdef extern from "codec/mss.h" nogil:
    bint dco_mss_clamp(uint8_t *packet, size_t size, uint32_t packet_max)

cdef extern from "codec/icmp.h" nogil:
    ctypedef enum dco_icmp "enum dco_icmp":
        pass
    enum:
        DCO_ICMP_MAX
    uint32_t dco_icmp_error(uint8_t *out, dco_icmp error, uint32_t mtu, const uint8_t *packet,
                            size_t size)

cdef extern from "codec/fragment.h" nogil:
    cdef struct dco_fragment:
        pass
    bint dco_fragment_begin(dco_fragment *fragment, uint8_t *packet, size_t size, uint32_t mtu)
    bint dco_fragment_next(dco_fragment *fragment, uint8_t **piece, uint32_t *size)

cdef extern from "codec/pktid.h" nogil:
    cdef struct dco_pktid_window:
        pass
    void dco_pktid_window_init(dco_pktid_window *window)
    bint dco_pktid_accept(dco_pktid_window *window, uint64_t id, uint64_t now_s)

cdef extern from "codec/tcpframe.h" nogil:
    int dco_tcpframe_next(uint8_t *stream, size_t size, size_t *offset, uint32_t frame_max,
                          uint8_t **frame, uint32_t *frame_size)

cdef extern from "codec/wire.h" nogil:
    enum:
        DCO_WIRE_OVERHEAD
        DCO_WIRE_TAG
        DCO_NONCE
        DCO_NONCE_TAIL
    uint32_t dco_wire_header(uint8_t key_id, uint32_t peer_id)

cdef extern from "codec/gcm.h" nogil:
    ctypedef enum dco_gcm_kind "enum dco_gcm_kind":
        DCO_GCM_NONE
        DCO_GCM_VAES256
        DCO_GCM_VAES512
    bint dco_gcm_has(dco_gcm_kind kind)

cdef extern from "codec/aead.h" nogil:
    cdef struct dco_aead:
        pass
    int dco_aead_init(dco_aead *aead, void *library, int cipher, const uint8_t *key,
                      size_t key_size, const uint8_t *nonce_tail, bint seal, dco_gcm_kind own)
    dco_gcm_kind dco_aead_probe(void *library)
    void dco_aead_clear(dco_aead *aead)
    bint dco_aead_encrypt(dco_aead *aead, const uint8_t *nonce, const uint8_t *aad,
                          size_t aad_size, const uint8_t *data, size_t size, uint8_t *out,
                          uint8_t *tag)
    bint dco_aead_decrypt(dco_aead *aead, const uint8_t *nonce, const uint8_t *aad,
                          size_t aad_size, const uint8_t *data, size_t size, uint8_t *out,
                          const uint8_t *tag)
    bint dco_aead_seal(dco_aead *aead, uint32_t header, uint32_t packet_id, const uint8_t *plain,
                       size_t size, uint8_t *packet)
    bint dco_aead_open(dco_aead *aead, uint8_t *packet, size_t size)

cdef extern from "codec/epochkey.h" nogil:
    enum:
        DCO_EPOCH_COUNTER_MAX
        DCO_EPOCH_SECRET
        DCO_WIRE_EPOCH_AAD
        DCO_WIRE_EPOCH_OVERHEAD
    cdef struct dco_epochkey_chain:
        uint8_t secret[1]  # DCO_EPOCH_SECRET of them
        uint32_t epoch
    cdef struct dco_epochkey:
        uint8_t iv[1]  # DCO_NONCE of them
        uint16_t epoch
    int dco_epochkey_expand(void *library, const uint8_t *secret, const char *label, uint8_t *out,
                            size_t size)
    void dco_epochkey_chain_init(dco_epochkey_chain *chain, const uint8_t *secret)
    int dco_epochkey_chain_step(dco_epochkey_chain *chain, void *library)
    void dco_epochkey_chain_clear(dco_epochkey_chain *chain)
    int dco_epochkey_take(dco_epochkey *key, dco_epochkey_chain *chain, void *library, int cipher,
                          size_t key_size, bint seal, dco_gcm_kind own)
    void dco_epochkey_clear(dco_epochkey *key)
    bint dco_epochkey_seal(dco_epochkey *key, uint32_t header, uint64_t counter,
                           const uint8_t *plain, size_t size, uint8_t *packet)
    bint dco_epochkey_open(dco_epochkey *key, uint8_t *packet, size_t size)

cdef extern from "sync/rcu.h" nogil:
    cdef struct dco_rcu:
        pass
    int dco_rcu_init(dco_rcu *rcu)
    void dco_rcu_destroy(dco_rcu *rcu)

cdef extern from "peers/lpm.h" nogil:
    cdef struct dco_lpm:
        pass
    cdef struct dco_lpm_route:
        pass
    int dco_lpm_init(dco_lpm *lpm, dco_rcu *rcu, size_t buckets)
    void dco_lpm_destroy(dco_lpm *lpm)
    dco_lpm_route *dco_lpm_route_new(const dco_prefix *prefix, void *owner, bint host)
    void dco_lpm_insert(dco_lpm *lpm, dco_lpm_route *route)
    void dco_lpm_remove(dco_lpm *lpm, dco_lpm_route *route)
    dco_lpm_route *dco_lpm_exact(const dco_lpm *lpm, const dco_prefix *prefix)
    void *dco_lpm_lookup(const dco_lpm *lpm, uint8_t family, const uint8_t *ip)

cdef extern from "peers/keyslot.h" nogil:
    enum:
        DCO_KEY_NO_ID
        DCO_KEY_SOON
        DCO_KEY_SPENT
        DCO_KEY_TURNED
    cdef struct dco_epochs_opened:
        bint newest
        bint moved
        bint soon
    cdef struct dco_epochs:
        uint64_t usage_limit
        uint64_t forgery_limit
    cdef struct dco_key:
        dco_epochs *epochs
        uint64_t usage_limit
        uint64_t usage_soon
    int dco_key_new(const dco_key_config *config, void *library, dco_gcm_kind own,
                    dco_key **key)
    void dco_key_free(dco_key *key)
    unsigned dco_key_take_id(dco_key *key, uint32_t size, uint64_t *packet_id)
    bint dco_key_seal(dco_key *key, uint32_t header, uint64_t packet_id, const uint8_t *plain,
                      uint32_t size, uint8_t *packet)
    dco_drop dco_epochs_open(dco_epochs *epochs, uint8_t *packet, uint32_t size, uint64_t now_s,
                             dco_epochs_opened *opened)
    int dco_epochs_refill(dco_epochs *epochs)

cdef extern from *:
    """
    #include "peers/keyslot.h"
    static uint32_t core_send_epoch(const struct dco_key *key)
    {
        return atomic_load(&key->epochs->send_epoch);
    }
    static uint32_t core_receive_epoch(const struct dco_key *key)
    {
        return atomic_load(&key->epochs->receive_epoch);
    }
    """
    uint32_t core_send_epoch(const dco_key *key)
    uint32_t core_receive_epoch(const dco_key *key)
    enum:
        DCO_GRO_SEGMENTS
        DCO_IP_PACKET_MAX
        DCO_CACHE_LINE


def checksum(const uint8_t[::1] data):
    """The Internet checksum (RFC 1071), complemented, as the number that the two bytes make."""
    cdef size_t size = data.shape[0]
    cdef uint16_t folded = dco_checksum_fold(dco_checksum_add(0, &data[0] if size else NULL, size))
    cdef uint8_t *stored = <uint8_t *>&folded
    return 0xFFFF - (stored[0] << 8 | stored[1])


def split(bytes packet, bytes vnet=None):
    """The packets that a packet of the TUN becomes, checksums complete.

    `vnet` is its virtio_net_hdr, 10 bytes. A refusal is a ValueError with the drop's name."""
    cdef size_t size = len(packet)
    cdef uint8_t *buffer = <uint8_t *>malloc(size + 1)
    cdef const char *header = NULL
    cdef dco_gso gso
    cdef dco_drop drop
    cdef uint8_t *segment
    cdef uint32_t length
    cdef list segments = []
    if buffer == NULL:
        raise MemoryError
    try:
        if vnet is not None:
            if len(vnet) != DCO_VNET_HEADER:
                raise ValueError("a virtio_net_hdr has 10 bytes here")
            header = vnet
        memcpy(buffer, <const char *>packet, size)
        drop = dco_gso_begin(&gso, <const dco_vnet *>header, buffer, size)
        if drop != 0:
            raise ValueError(dco_drop_name(drop).decode())
        while dco_gso_next(&gso, &segment, &length):
            segments.append(segment[:length])
        return segments
    finally:
        free(buffer)


def clamp_mss(bytes packet, uint32_t packet_max):
    """The packet, with the MSS of a SYN lowered so that segments have at most so many bytes."""
    cdef bytearray copy = bytearray(packet)
    cdef unsigned char[::1] view = copy
    if len(copy):
        dco_mss_clamp(&view[0], len(copy), packet_max)
    return bytes(copy)


def icmp_error(bytes packet, int error, uint32_t mtu=0):
    """The ICMP error about a packet; b"" where there must be none. `error`: enum dco_icmp."""
    cdef uint8_t out[DCO_ICMP_MAX]
    if not 0 <= error <= 3:
        raise ValueError("an error is 0 to 3")
    return out[:dco_icmp_error(out, <dco_icmp>error, mtu, <const uint8_t *><const char *>packet,
                               len(packet))]


def fragment(bytes packet, uint32_t mtu):
    """The fragments of an IPv4 packet; None where it may not, or cannot, be fragmented."""
    cdef bytearray copy = bytearray(packet) + b"\0"
    cdef unsigned char[::1] view = copy
    cdef dco_fragment pieces
    cdef uint8_t *piece
    cdef uint32_t size
    cdef list out = []
    if not dco_fragment_begin(&pieces, &view[0], len(packet), mtu):
        return None
    while dco_fragment_next(&pieces, &piece, &size):
        out.append(piece[:size])
    return out


cdef list gro_out(dco_gro *gro):
    cdef iovec iov[DCO_GRO_SEGMENTS + 1]
    cdef list items = []
    cdef uint32_t i
    cdef int parts, k
    for i in range(gro.count):
        parts = dco_gro_finish(&gro.item[i], True, iov)
        flat = [(<const char *>iov[k].iov_base)[:iov[k].iov_len] for k in range(parts)]
        items.append((flat[0], b"".join(flat[1:]), gro.item[i].packets))
    return items


def coalesce(packets, *, bint tcp, bint udp, owners=None):
    """What received packets are written to the TUN as: (virtio_net_hdr, packet, how many).

    `owners` are numbers, one for each packet, by which peers are told apart."""
    cdef dco_gro *gro = <dco_gro *>malloc(sizeof(dco_gro))
    cdef list buffers = [bytearray(packet) for packet in packets]
    cdef list items = []
    cdef uint8_t *data
    cdef uint32_t size
    cdef size_t owner
    if gro == NULL:
        raise MemoryError
    try:
        dco_gro_reset(gro, tcp, udp)
        for i, buffer in enumerate(buffers):
            if len(buffer) > DCO_IP_PACKET_MAX:
                raise ValueError("an IP packet has at most 65535 bytes")
            data, size = buffer, len(buffer)
            owner = owners[i] if owners is not None else 0
            if not dco_gro_add(gro, data, size, <void *>owner):
                items += gro_out(gro)
                dco_gro_reset(gro, tcp, udp)
                dco_gro_add(gro, data, size, <void *>owner)
        return items + gro_out(gro)
    finally:
        free(gro)


def tcp_frames(bytes stream, *, uint32_t frame_max):
    """(packets, how many bytes of the stream they take) of the whole frames in front.

    A length that cannot be is an OSError with EPROTO (zero) or EMSGSIZE, whatever comes before."""
    cdef bytearray copy = bytearray(stream)
    cdef uint8_t *data = copy
    cdef uint8_t *frame
    cdef uint32_t length
    cdef size_t size = len(copy), offset = 0
    cdef list packets = []
    cdef int result = dco_tcpframe_next(data, size, &offset, frame_max, &frame, &length)
    while result == 1:
        packets.append(frame[:length])
        result = dco_tcpframe_next(data, size, &offset, frame_max, &frame, &length)
    check(result)
    return packets, offset


cdef class ReplayWindow:
    """The replay window of one key."""

    cdef dco_pktid_window window

    def __cinit__(self):
        dco_pktid_window_init(&self.window)

    def accept(self, uint64_t packet_id, uint64_t now_s):
        """Whether an authenticated id is fresh; it is then marked as seen."""
        return bool(dco_pktid_accept(&self.window, packet_id, now_s))


# The code for AES-GCM that this processor can run, by bits of a register; 0 is OpenSSL's.
GCM_KINDS = (0, *[kind for kind in (DCO_GCM_VAES256, DCO_GCM_VAES512) if dco_gcm_has(kind)])


cdef int check_gcm(int own) except -1:
    if own not in GCM_KINDS:
        raise OSError(EINVAL, f"this processor has no AES-GCM of {own} bits")
    return 0


def probe_gcm():
    """Whose AES-GCM a device uses here unless told otherwise, of GCM_KINDS."""
    return <int>dco_aead_probe(NULL)


cdef class PacketKey:
    """One key for both directions: DATA_V2 framing, and the bare cipher below it.

    `own` of GCM_KINDS says whose AES-GCM it is."""

    cdef dco_aead sealer
    cdef dco_aead opener

    def __cinit__(self, int cipher, const uint8_t[::1] key, const uint8_t[::1] nonce_tail, *,
                  int own=0):
        cdef const uint8_t *bytes_ = &key[0] if key.shape[0] else NULL
        memset(&self.sealer, 0, sizeof(self.sealer))
        memset(&self.opener, 0, sizeof(self.opener))
        if nonce_tail.shape[0] != DCO_NONCE_TAIL:
            raise OSError(EINVAL, "a nonce tail has 8 bytes")
        check_gcm(own)
        check(dco_aead_init(&self.sealer, NULL, cipher, bytes_, key.shape[0], &nonce_tail[0], True,
                            <dco_gcm_kind>own))
        check(dco_aead_init(&self.opener, NULL, cipher, bytes_, key.shape[0], &nonce_tail[0],
                            False, <dco_gcm_kind>own))

    def __dealloc__(self):
        dco_aead_clear(&self.sealer)
        dco_aead_clear(&self.opener)

    def seal(self, uint8_t key_id, uint32_t peer_id, uint32_t packet_id, bytes plain):
        """The DATA_V2 packet."""
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, len(plain) + DCO_WIRE_OVERHEAD)
        if key_id > 7 or peer_id > 0xFFFFFF:
            raise OSError(EINVAL, "a key id has 3 bits, a peer id 24")
        if not dco_aead_seal(&self.sealer, dco_wire_header(key_id, peer_id), packet_id,
                             <const uint8_t *><const char *>plain, len(plain),
                             <uint8_t *><char *>packet):
            raise OSError(EINVAL, "cipher failed")
        return packet

    def open(self, bytes packet):
        """The inner packet, or None where the packet is not authentic."""
        cdef bytearray copy = bytearray(packet)
        cdef uint8_t *data = copy
        if len(copy) < DCO_WIRE_OVERHEAD or not dco_aead_open(&self.opener, data, len(copy)):
            return None
        return bytes(copy[DCO_WIRE_OVERHEAD:])

    def encrypt(self, bytes nonce, bytes aad, bytes plain):
        """(ciphertext, tag); the nonce has 12 bytes."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, len(plain))
        cdef bytes tag = PyBytes_FromStringAndSize(NULL, DCO_WIRE_TAG)
        if len(nonce) != DCO_NONCE:
            raise OSError(EINVAL, "a nonce has 12 bytes")
        if not dco_aead_encrypt(&self.sealer, <const uint8_t *><const char *>nonce,
                                <const uint8_t *><const char *>aad, len(aad),
                                <const uint8_t *><const char *>plain, len(plain),
                                <uint8_t *><char *>out, <uint8_t *><char *>tag):
            raise OSError(EINVAL, "cipher failed")
        return out, tag

    def decrypt(self, bytes nonce, bytes aad, bytes ciphertext, bytes tag):
        """The plaintext, or None where the tag does not verify."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, len(ciphertext))
        if len(nonce) != DCO_NONCE or len(tag) != DCO_WIRE_TAG:
            raise OSError(EINVAL, "a nonce has 12 bytes, a tag 16")
        if not dco_aead_decrypt(&self.opener, <const uint8_t *><const char *>nonce,
                                <const uint8_t *><const char *>aad, len(aad),
                                <const uint8_t *><const char *>ciphertext, len(ciphertext),
                                <uint8_t *><char *>out, <const uint8_t *><const char *>tag):
            return None
        return out


cdef int epoch_secret_in(dco_epochkey_chain *chain, bytes secret) except -1:
    if len(secret) != DCO_EPOCH_SECRET:
        raise OSError(EINVAL, "the secret of an epoch has 32 bytes")
    dco_epochkey_chain_init(chain, <const uint8_t *><const char *>secret)
    return 0


def expand_label(bytes secret, bytes label, size_t size):
    """HKDF-Expand-Label of the epoch format; `label` without its prefix."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    if len(secret) != DCO_EPOCH_SECRET:
        raise OSError(EINVAL, "the secret of an epoch has 32 bytes")
    check(dco_epochkey_expand(NULL, <const uint8_t *><const char *>secret, label,
                              <uint8_t *><char *>out, size))
    return out


def next_epoch(bytes secret):
    """E(n + 1) from E(n)."""
    cdef dco_epochkey_chain chain
    epoch_secret_in(&chain, secret)
    check(dco_epochkey_chain_step(&chain, NULL))
    following = <bytes>chain.secret[:DCO_EPOCH_SECRET]
    dco_epochkey_chain_clear(&chain)
    return following


cdef class EpochPacketKey:
    """The key of one epoch for both directions: the epoch format of DATA_V2."""

    cdef dco_epochkey sealer
    cdef dco_epochkey opener

    def __cinit__(self, int cipher, size_t key_size, bytes secret, uint32_t epoch=1, int own=0):
        cdef dco_epochkey_chain one, two
        memset(&self.sealer, 0, sizeof(self.sealer))
        memset(&self.opener, 0, sizeof(self.opener))
        if not 1 <= epoch <= DCO_EPOCH_MAX:
            raise OSError(EINVAL, "an epoch is 1 to 65535")
        check_gcm(own)
        epoch_secret_in(&one, secret)
        while one.epoch < epoch:
            check(dco_epochkey_chain_step(&one, NULL))
        two = one
        check(dco_epochkey_take(&self.sealer, &one, NULL, cipher, key_size, True,
                                <dco_gcm_kind>own))
        check(dco_epochkey_take(&self.opener, &two, NULL, cipher, key_size, False,
                                <dco_gcm_kind>own))
        dco_epochkey_chain_clear(&one)
        dco_epochkey_chain_clear(&two)

    def __dealloc__(self):
        dco_epochkey_clear(&self.sealer)
        dco_epochkey_clear(&self.opener)

    @property
    def iv(self):
        """What the nonces are made with."""
        return self.sealer.iv[:DCO_NONCE]

    def seal(self, uint8_t key_id, uint32_t peer_id, uint64_t counter, bytes plain):
        """The DATA_V2 packet."""
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, len(plain) + DCO_WIRE_EPOCH_OVERHEAD)
        if key_id > 7 or peer_id > 0xFFFFFF or counter > <uint64_t>DCO_EPOCH_COUNTER_MAX:
            raise OSError(EINVAL, "a key id has 3 bits, a peer id 24, a counter 48")
        if not dco_epochkey_seal(&self.sealer, dco_wire_header(key_id, peer_id), counter,
                                 <const uint8_t *><const char *>plain, len(plain),
                                 <uint8_t *><char *>packet):
            raise OSError(EINVAL, "cipher failed")
        return packet

    def open(self, bytes packet):
        """The inner packet, or None where the packet is not authentic."""
        cdef bytearray copy = bytearray(packet)
        cdef uint8_t *data = copy
        if len(copy) < DCO_WIRE_EPOCH_OVERHEAD:
            return None
        if not dco_epochkey_open(&self.opener, data, len(copy)):
            return None
        return bytes(copy[DCO_WIRE_EPOCH_AAD:len(copy) - DCO_WIRE_TAG])


cdef class EpochKeyring:
    """A key in the epoch format with all its epochs, as a peer holds it, but without an engine that
    refills it: `refill` does. Limits other than the cipher's may be set."""

    cdef dco_key *key

    def __cinit__(self, int cipher, size_t key_size, bytes send_secret, bytes receive_secret, *,
                  uint32_t future_epochs=4, uint32_t first_epoch=1, uint64_t first_packet_id=1,
                  int own=0):
        cdef dco_key_config config
        if len(send_secret) != DCO_EPOCH_SECRET or len(receive_secret) != DCO_EPOCH_SECRET:
            raise OSError(EINVAL, "the secret of an epoch has 32 bytes")
        check_gcm(own)
        memset(&config, 0, sizeof(config))
        config.cipher = <dco_cipher>cipher
        config.encrypt_key = <const uint8_t *><const char *>send_secret
        config.decrypt_key = <const uint8_t *><const char *>receive_secret
        config.encrypt_key_size = config.decrypt_key_size = DCO_EPOCH_SECRET
        config.first_packet_id = first_packet_id
        config.future_epochs = future_epochs
        config.first_epoch = first_epoch
        config.epoch_key_size = key_size
        check(dco_key_new(&config, NULL, <dco_gcm_kind>own, &self.key))
        if self.key.epochs == NULL:
            raise OSError(EINVAL, "a receiver holds one future epoch at least")

    def __dealloc__(self):
        dco_key_free(self.key)

    @property
    def send_epoch(self):
        """The epoch that seals."""
        return core_send_epoch(self.key)

    @property
    def receive_epoch(self):
        """The latest epoch that an authentic packet was of."""
        return core_receive_epoch(self.key)

    def limit(self, *, usage=None, forgeries=None):
        """Blocks plus packets of an epoch; failed packets of an epoch."""
        if usage is not None:
            self.key.usage_limit = self.key.epochs.usage_limit = usage
            self.key.usage_soon = usage // 8 * 7
        if forgeries is not None:
            self.key.epochs.forgery_limit = forgeries

    def refill(self):
        """Derives what is wanted."""
        check(dco_epochs_refill(self.key.epochs))

    def seal(self, bytes plain):
        """(packet or None, names of what the caller would be told)."""
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, len(plain) + DCO_WIRE_EPOCH_OVERHEAD)
        cdef uint64_t packet_id = 0
        cdef unsigned news = dco_key_take_id(self.key, len(plain), &packet_id)
        names = {
            name for bit, name in (
                (DCO_KEY_SOON, "soon"), (DCO_KEY_SPENT, "spent"), (DCO_KEY_TURNED, "turned"),
            ) if news & <unsigned>bit
        }
        if news & <unsigned>DCO_KEY_NO_ID:
            return None, names
        if not dco_key_seal(self.key, dco_wire_header(0, 1), packet_id,
                            <const uint8_t *><const char *>plain, len(plain),
                            <uint8_t *><char *>packet):
            raise OSError(EINVAL, "cipher failed")
        return packet, names

    def open(self, bytes packet, uint64_t now_s=1):
        """(inner packet or the name of a drop reason, whether it was the newest)."""
        cdef bytearray copy = bytearray(packet)
        cdef uint8_t *data = copy
        cdef dco_epochs_opened opened
        cdef dco_drop drop
        memset(&opened, 0, sizeof(opened))
        drop = dco_epochs_open(self.key.epochs, data, len(copy), now_s, &opened)
        if drop != 0:
            return dco_drop_name(drop).decode(), False
        return bytes(copy[DCO_WIRE_EPOCH_AAD:len(copy) - DCO_WIRE_TAG]), bool(opened.newest)


cdef struct prefix_state:
    dco_rcu rcu
    dco_lpm lpm


cdef class PrefixTable:
    """The longest-prefix table, with numbers as owners."""

    cdef prefix_state *state
    cdef set prefixes

    def __cinit__(self, size_t buckets=256):
        cdef size_t line = DCO_CACHE_LINE
        cdef size_t size = (sizeof(prefix_state) + line - 1) // line * line
        cdef prefix_state *state = <prefix_state *>aligned_alloc(line, size)
        if state == NULL:
            raise MemoryError
        memset(state, 0, size)
        result = dco_rcu_init(&state.rcu)
        if result == 0:
            result = dco_lpm_init(&state.lpm, &state.rcu, buckets)
            if result < 0:
                dco_rcu_destroy(&state.rcu)
        if result < 0:
            free(state)
        check(result)
        self.state = state
        self.prefixes = set()

    def __dealloc__(self):
        cdef dco_prefix prefix
        if self.state == NULL:
            return
        for ip, length in self.prefixes:
            prefix_in(&prefix, ip, length)
            dco_lpm_remove(&self.state.lpm, dco_lpm_exact(&self.state.lpm, &prefix))
        dco_lpm_destroy(&self.state.lpm)
        dco_rcu_destroy(&self.state.rcu)
        free(self.state)

    def insert(self, bytes ip, int length, uint32_t owner):
        """A prefix without bits beyond its length. ValueError: it is in the table."""
        cdef dco_prefix prefix
        cdef dco_lpm_route *route
        prefix_in(&prefix, ip, length)
        if (ip, length) in self.prefixes:
            raise ValueError("prefix is in the table")
        # NULL stands for nobody.
        route = dco_lpm_route_new(&prefix, <void *>(<size_t>owner + 1), False)
        if route == NULL:
            raise MemoryError
        dco_lpm_insert(&self.state.lpm, route)
        self.prefixes.add((ip, length))

    def remove(self, bytes ip, int length):
        """KeyError: it is not in the table."""
        cdef dco_prefix prefix
        prefix_in(&prefix, ip, length)
        self.prefixes.remove((ip, length))
        dco_lpm_remove(&self.state.lpm, dco_lpm_exact(&self.state.lpm, &prefix))

    def lookup(self, bytes ip):
        """The owner of the longest prefix that holds the address, or None."""
        cdef dco_prefix address
        prefix_in(&address, ip, 0)
        owner = <size_t>dco_lpm_lookup(&self.state.lpm, address.family, address.ip)
        return owner - 1 if owner else None
