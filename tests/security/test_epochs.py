"""Keys in the epoch format: what is refused at every border of epochs, counters and lengths."""

from __future__ import annotations

import pytest
from epoch_wire import COUNTER_MAX, EPOCH_MAX, OVERHEAD, SOON, EpochPeer
from security.forge import OVERHEAD as CLASSIC_OVERHEAD
from security.forge import Forge, ip
from security.lab import Lab, LabPeer, Outcome, eventually

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot, KeySwapReason, _core

pytestmark = pytest.mark.security

INNER = ip("10.9.0.1", "10.9.0.7", b"outbound")
INBOUND = ip("10.9.0.7", "10.9.0.1", b"inbound")
CIPHERS = [cipher for cipher in dco.Cipher if cipher is not dco.Cipher.NONE]


class Session:
    """Peer 7 of a lab with a key in the epoch format, and its far end."""

    def __init__(self, lab: Lab, *, futures: int = 4, host: str = "127.0.0.1",
                 cipher: dco.Cipher = dco.Cipher.AES_256_GCM, key_id: int = 0,
                 **start: int) -> None:  # fmt: skip
        self.lab = lab
        self.member: LabPeer = lab.add_peer(7, host=host, install=False)
        self.far = EpochPeer(key_id=key_id, cipher=cipher, future_epochs=futures)
        self.peer.install_key(KeySlot.PRIMARY, self.far.key(**start))

    @property
    def peer(self) -> dco.Peer:
        return self.member.peer

    @property
    def receive_epoch(self) -> int | None:
        return self.peer.key(KeySlot.PRIMARY).receive_epoch

    @property
    def send_epoch(self) -> int | None:
        return self.peer.key(KeySlot.PRIMARY).send_epoch

    def deliver(self, epoch: int, counter: int | None = None) -> Outcome:
        return self.deliver_raw(self.far.seal(INBOUND, epoch, counter))

    def deliver_raw(self, *datagrams: bytes) -> Outcome:
        return self.lab.deliver(*datagrams, sock=self.member.socket)

    def sent(self, count: int) -> list[tuple[int, int]]:
        """(epoch, counter) of the next packets that the engine sends."""
        opened = [self.far.open(self.member.receive()) for _ in range(count)]
        return [(packet.epoch, packet.counter) for packet in opened]


@pytest.fixture
def session(lab: Lab) -> Session:
    return Session(lab)


def flip(packet: bytes, position: int, bit: int = 0) -> bytes:
    return packet[:position] + bytes([packet[position] ^ 1 << bit]) + packet[position + 1 :]


# Jumps (CVE-2025-15497)


@pytest.mark.parametrize("futures", [1, 4, 16])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 2])
def test_jump_to_the_border_of_the_future(lab: Lab, futures: int, beyond: int) -> None:
    session = Session(lab, futures=futures)
    assert session.deliver(1).inner == [INBOUND]
    target = 1 + futures + beyond
    outcome = session.deliver(target)
    if beyond <= 0:
        assert outcome.inner == [INBOUND]
        assert session.receive_epoch == target
    else:
        outcome.assert_dropped(DropReason.RX_EPOCH_AHEAD)
        assert outcome.peers[7]["rx_unknown_key_id"] == 1
        assert session.receive_epoch == 1
        assert session.deliver(1).inner == [INBOUND]


def test_jump_to_the_end_of_the_numbers(session: Session) -> None:
    for epoch in (EPOCH_MAX, EPOCH_MAX - 1, 0x8000):
        packet = bytearray(session.far.seal(INBOUND))
        packet[4:6] = epoch.to_bytes(2, "big")
        session.deliver_raw(bytes(packet)).assert_dropped(DropReason.RX_EPOCH_AHEAD)
    assert session.receive_epoch == 1


def test_jump_after_jump(session: Session) -> None:
    """Each to the very border; the keys for the next are there a moment later."""
    for epoch in range(5, 42, 4):
        eventually(lambda e=epoch: session.deliver(e).inner == [INBOUND], what=f"epoch {epoch}")
        assert session.receive_epoch == epoch


def test_jump_back(session: Session) -> None:
    """To the one before: its packets may be on their way. Further: its key is no more."""
    for epoch in (1, 2, 4):
        assert session.deliver(epoch).inner == [INBOUND]
    assert session.deliver(2).inner == [INBOUND]
    for gone in (1, 3):
        outcome = session.deliver(gone)
        outcome.assert_dropped(DropReason.RX_EPOCH_PAST)
        assert outcome.peers[7]["rx_replay_errors"] == 1
    assert session.receive_epoch == 4


@pytest.mark.parametrize("jump", [-1, 0, 1, 3, 4])
def test_unauthenticated_jump_moves_nothing(lab: Lab, jump: int) -> None:
    session = Session(lab, first_epoch=10)
    for epoch in (10, 11):
        assert session.deliver(epoch).inner == [INBOUND]
    good = session.far.seal(INBOUND, 11 + jump)
    for position in (6, 11, 12, len(good) - 17, len(good) - 16, len(good) - 1):
        session.deliver_raw(flip(good, position)).assert_dropped(DropReason.RX_DECRYPT)
    assert session.receive_epoch == 11
    assert session.deliver(10).inner == [INBOUND], "the retiring key is still there"
    assert session.deliver_raw(good).inner == [INBOUND], "the good one was not used up"


def test_epoch_zero(session: Session) -> None:
    for counter in (0, 1, COUNTER_MAX):
        session.deliver(0, counter).assert_dropped(DropReason.RX_EPOCH_PAST)
    assert session.deliver(2).inner == [INBOUND]
    session.deliver(0, 1).assert_dropped(DropReason.RX_EPOCH_PAST)


def test_counter_zero_of_a_future_epoch_moves_nothing(session: Session) -> None:
    session.deliver(3, 0).assert_dropped(DropReason.RX_REPLAY)
    assert session.receive_epoch == 1


# Replay


def test_each_epoch_has_its_own_window(session: Session) -> None:
    for epoch in (1, 2):
        for counter in (5, 3000, COUNTER_MAX):
            packet = session.far.seal(INBOUND, epoch, counter)
            assert session.deliver_raw(packet).inner == [INBOUND]
            session.deliver_raw(packet).assert_dropped(DropReason.RX_REPLAY)
    # Behind the window of the retiring epoch, whose newest is the last there is.
    session.deliver(1, 6).assert_dropped(DropReason.RX_REPLAY)
    late = session.far.seal(INBOUND, 1, COUNTER_MAX - 2047)
    assert session.deliver_raw(late).inner == [INBOUND]
    session.deliver_raw(late).assert_dropped(DropReason.RX_REPLAY)
    session.deliver(1, COUNTER_MAX - 2048).assert_dropped(DropReason.RX_REPLAY)


def test_late_packet_of_the_last_epoch_does_not_move_the_peer(session: Session) -> None:
    """Its window has seen no newer one, but the peer has sent newer packets."""
    assert session.deliver(2).inner == [INBOUND]
    elsewhere = session.lab.udp()
    late = session.far.seal(INBOUND, 1, 77)
    outcome = session.lab.deliver(late, sock=elsewhere)
    assert outcome.inner == [INBOUND]
    assert not outcome.moved
    newer = session.far.seal(INBOUND, 3)
    assert 7 in session.lab.deliver(newer, sock=elsewhere).moved


# Lengths (CVE-2026-2738: the tag is at the end)


def test_truncated_at_every_length(session: Session) -> None:
    good = session.far.seal(ip("10.9.0.7", "10.9.0.1", bytes(40)), 2)
    for size in range(len(good)):
        outcome = session.deliver_raw(good[:size])
        runt = size < OVERHEAD
        outcome.assert_dropped(DropReason.RX_RUNT if runt else DropReason.RX_DECRYPT)
    for more in (1, 15, 16, 17, 1000):
        session.deliver_raw(good + bytes(more)).assert_dropped(DropReason.RX_DECRYPT)
    assert session.receive_epoch == 1
    assert len(session.deliver_raw(good).inner) == 1


def test_tag_alone(session: Session) -> None:
    session.deliver_raw(session.far.seal(b"", 1)).assert_dropped(DropReason.RX_EMPTY)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1400, 9000, 65507 - OVERHEAD])
def test_every_bit_of_the_tag_and_around_it(session: Session, size: int) -> None:
    good = session.far.seal(bytes(size), 1)
    places = [*range(4, 14)]
    places += [len(good) - back for back in range(1, 19) if len(good) - back >= 6]
    for position in sorted(set(places)):
        for bit in (0, 7):
            outcome = session.deliver_raw(flip(good, position, bit))
            assert not outcome.inner
            assert not outcome.control
            assert sum(outcome.drops.values()) == 1
    assert len(session.deliver_raw(good).control) == 1, "no IP packet: a message"


@pytest.mark.parametrize("version", [4, 6])
def test_largest_datagram_and_one_byte_more(lab: Lab, version: int) -> None:
    """An inner packet for which the sealed datagram is just, and just not, small enough."""
    session = Session(lab)
    head = 20 if version == 4 else 40
    ends = ("10.9.0.1", "10.9.0.7") if version == 4 else ("fd09::1", "fd09::7")
    largest = 65507 - OVERHEAD
    lab.transmit(ip(*ends, bytes(largest - head)))
    assert len(session.member.receive()) == 65507
    for size in range(largest + 1, largest + 30):
        lab.transmit(ip(*ends, bytes(size - head)))
    assert lab.device.stats().drops[DropReason.TX_TOO_BIG] == 29
    assert session.member.receive_all() == []
    lab.transmit(INNER)
    assert session.sent(1) == [(1, 2)], "no id was used for what could not be sent"


# The length on the wire (openvpn #1074)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("epoch_format", [False, True], ids=["classic", "epoch"])
@pytest.mark.parametrize("outer", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("version", [4, 6])
def test_outer_length_is_exactly_as_computed(
    cipher: dco.Cipher, epoch_format: bool, outer: str, version: int
) -> None:
    ends = ("10.9.0.1", "10.9.0.7") if version == 4 else ("fd09::1", "fd09::7")
    with Lab(host=outer) as lab:
        if epoch_format:
            peer, overhead = Session(lab, host=outer, cipher=cipher).member, OVERHEAD
        else:
            peer, overhead = lab.add_peer(7, host=outer, cipher=cipher), CLASSIC_OVERHEAD
        sizes = [*range(33), 1380, 1400, 1472, 8900]
        packets = [ip(*ends, bytes(size)) for size in sizes]
        lab.transmit(*packets)
        assert [len(peer.receive()) for _ in sizes] == [len(p) + overhead for p in packets]
        total = sum(len(packet) + overhead for packet in packets)
        eventually(lambda: peer.peer.stats().link_tx_bytes == total, what="every byte counted")


# Formats side by side


def test_the_key_tells_the_format(lab: Lab) -> None:
    """One key id in each format; a packet sealed in the other one is noise."""
    session = Session(lab)
    classic = Forge(7, key_id=1)
    session.peer.install_key(KeySlot.SECONDARY, classic.key())
    assert session.deliver_raw(classic.seal(INBOUND)).inner == [INBOUND]
    assert session.deliver(1).inner == [INBOUND]
    as_epoch = classic.seal(INBOUND, key_id=0, packet_id=0x00010000)
    session.deliver_raw(as_epoch).assert_dropped(DropReason.RX_DECRYPT)
    as_classic = bytes([session.far.seal(INBOUND)[0] | 1]) + session.far.seal(INBOUND)[1:]
    session.deliver_raw(as_classic).assert_dropped(DropReason.RX_DECRYPT)


def test_a_classic_packet_shorter_than_the_epoch_format_needs(lab: Lab) -> None:
    session = Session(lab)
    classic = Forge(7, key_id=0)
    for payload in (b"", b"123"):
        packet = classic.seal(payload, packet_id=0x00010001)
        assert len(packet) < OVERHEAD
        session.deliver_raw(packet).assert_dropped(DropReason.RX_RUNT)


# The end of the counters (CVE-2017-7479)


def test_last_counter_leads_to_the_next_epoch(lab: Lab) -> None:
    session = Session(lab, first_packet_id=COUNTER_MAX - 9)
    lab.transmit(*[INNER] * 30)
    expected = [(1, COUNTER_MAX - back) for back in range(9, -1, -1)]
    assert session.sent(30) == expected + [(2, counter) for counter in range(1, 21)]
    assert not lab.device.poll_events(), "nothing that needs a new key"
    key = session.peer.key(KeySlot.PRIMARY)
    assert (key.packets_sealed, key.send_epoch, key.receive_epoch) == (30, 2, 1)


@pytest.mark.parametrize("cipher", [dco.Cipher.AES_256_GCM, dco.Cipher.CHACHA20_POLY1305])
def test_nothing_is_sent_after_the_last_counter_of_the_last_epoch(
    lab: Lab, cipher: dco.Cipher
) -> None:
    session = Session(lab, cipher=cipher, first_epoch=EPOCH_MAX, first_packet_id=COUNTER_MAX - 99)
    lab.transmit(*[INNER] * 100)
    assert session.sent(100) == [(EPOCH_MAX, COUNTER_MAX - back) for back in range(99, -1, -1)]
    assert lab.wait_event(dco.KeySwapNeeded).reason is KeySwapReason.SOON
    lab.transmit(*[INNER] * 50)
    assert lab.wait_event(dco.KeySwapNeeded).reason is KeySwapReason.EXHAUSTED
    assert lab.device.stats().drops[DropReason.TX_KEY_EXHAUSTED] == 50
    assert session.peer.stats().tx_iv_exhausted == 50
    assert session.member.receive_all() == [], "not one packet more"
    assert not lab.device.poll_events(), "told once"
    assert session.deliver(EPOCH_MAX).inner == [INBOUND], "opening goes on"


def test_soon_is_told_once_near_the_last_epoch(lab: Lab) -> None:
    session = Session(lab, key_id=3, first_epoch=SOON - 1, first_packet_id=COUNTER_MAX)
    lab.transmit(INNER)
    assert not lab.device.poll_events()
    lab.transmit(INNER)
    event = lab.wait_event(dco.KeySwapNeeded)
    assert (event.key_id, event.reason) == (3, KeySwapReason.SOON)
    lab.transmit(*[INNER] * 20)
    assert session.deliver(SOON).inner == [INBOUND]
    assert not lab.device.poll_events()


def test_a_peer_near_the_last_epoch_is_told_of_as_well(lab: Lab) -> None:
    session = Session(lab, first_epoch=SOON - 1)
    assert session.deliver(SOON - 1).events == []
    (event,) = session.deliver(SOON).events
    assert isinstance(event, dco.KeySwapNeeded)
    assert event.reason is KeySwapReason.SOON


def test_no_epoch_after_one_that_the_peer_has_not_shown(lab: Lab) -> None:
    """We may be one epoch ahead of it. Only a compliant peer knows the keys of more."""
    ring = _core.EpochKeyring(1, 32, bytes(32), bytes(range(32)))
    ring.limit(usage=8)
    sealed = []
    for _ in range(20):
        packet, news = ring.seal(b"x")
        ring.refill()
        sealed.append((packet and packet[4:12].hex(), "soon" in news, "spent" in news))
    ids = [f"{epoch:04x}{counter:012x}" for epoch in (1, 2) for counter in (1, 2, 3, 4)]
    assert [packet for packet, _, _ in sealed] == ids + [None] * 12
    assert [soon for _, soon, _ in sealed[:8]] == [False] * 7 + [True], "told before the end"
    assert all(spent for _, _, spent in sealed[8:])
    assert ring.send_epoch == 2


@pytest.mark.parametrize("limit", [7, 8, 64])
def test_no_packet_beyond_the_usage_limit_of_an_epoch(limit: int) -> None:
    """Blocks plus packets, of one epoch: the limit itself may be reached, not passed."""
    near = _core.EpochKeyring(1, 16, b"a" * 32, b"b" * 32)
    far = _core.EpochKeyring(1, 16, b"b" * 32, b"a" * 32)
    near.limit(usage=limit)
    used: dict[int, int] = {}
    for size in [1, 16, 17, 0, 40] * 60:
        packet, _ = near.seal(bytes(size))
        near.refill()
        if packet is None:
            continue
        epoch = int.from_bytes(packet[4:6], "big")
        used[epoch] = used.get(epoch, 0) + (size + 15) // 16 + 1
        assert far.open(packet)[0] == bytes(size)
        far.refill()
        answer, _ = far.seal(b"")
        far.refill()
        assert answer is not None
        near.open(answer)
    assert len(used) > 3
    assert max(used.values()) <= limit


def test_ids_beyond_the_last_are_refused(lab: Lab) -> None:
    session = Session(lab)
    for start in ({"first_packet_id": COUNTER_MAX + 1}, {"first_epoch": EPOCH_MAX + 1}):
        with pytest.raises(dco.DcoError) as caught:
            session.peer.install_key(KeySlot.PRIMARY, session.far.key(**start))
        assert caught.value.attribute == next(iter(start))
    lab.transmit(INNER)
    assert session.sent(1) == [(1, 1)], "the key that was there is still there"


def test_forgeries_of_each_epoch_are_counted_apart() -> None:
    near = _core.EpochKeyring(1, 32, b"a" * 32, b"b" * 32)
    far = EpochPeer()  # another secret: whatever it seals is a forgery here
    near.limit(forgeries=3)
    forged = [near.open(far.seal(b"x", 2))[0] for _ in range(5)]
    assert forged == ["rx_decrypt"] * 3 + ["rx_key_spent"] * 2
    assert near.open(far.seal(b"x", 1))[0] == "rx_decrypt"
    assert near.open(far.seal(b"x", 3))[0] == "rx_decrypt"


# Secrets


def test_secrets_are_not_shown(lab: Lab) -> None:
    session = Session(lab)
    key = session.far.key()
    for value in (key, session.peer.key(KeySlot.PRIMARY), session.peer):
        for secret in (session.far.send_secret, session.far.receive_secret):
            for text in (repr(value), str(value)):
                assert secret.hex() not in text
                assert repr(secret)[2:-1] not in text


def test_consumed_secrets_are_cleared_and_refused_ones_are_not(lab: Lab) -> None:
    session = Session(lab)
    for slot, key_id, cleared in ((KeySlot.SECONDARY, 0, False), (KeySlot.SECONDARY, 1, True)):
        buffers = [bytearray(range(32)), bytearray(range(32, 64))]
        key = dco.EpochKey(key_id, dco.Cipher.AES_128_GCM, memoryview(buffers[0]), buffers[1])
        if cleared:
            session.peer.install_key(slot, key, consume=True)
        else:
            with pytest.raises(dco.InvalidArgument):
                session.peer.install_key(slot, key, consume=True)
        assert (not any(map(any, buffers))) is cleared
