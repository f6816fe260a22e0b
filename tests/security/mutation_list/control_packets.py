"""The control channel before TLS: packets, wrapping, cookie."""

from __future__ import annotations

from .mutation import Mutation

PROTOCOL = "ovpn_dco/protocol/"


def control(name: str) -> str:
    return f"tests/security/test_control_packets.py::{name}"


def protocol(file: str, name: str) -> str:
    return f"tests/protocol/{file}.py::{name}"


MUTATIONS = [
    # Control channel
    Mutation(
        "cookie-compared-upside-down",
        control("test_forged_cookie"),
        PROTOCOL + "cookie.py",
        "valid |= hmac.compare_digest(expected, session_id)",
        "valid |= not hmac.compare_digest(expected, session_id)",
    ),
    Mutation(
        "cookie-of-the-next-slot",
        control("test_cookie_of_the_future"),
        PROTOCOL + "cookie.py",
        "for slot in (current, current - 1):",
        "for slot in (current, current - 1, current + 1):",
    ),
    Mutation(
        "cookie-of-a-slot-before",
        control("test_expired_cookie"),
        PROTOCOL + "cookie.py",
        "for slot in (current, current - 1):",
        "for slot in (current, current - 1, current - 2):",
    ),
    Mutation(
        "cookie-without-port",
        control("test_cookie_from_another_address_or_port"),
        PROTOCOL + "cookie.py",
        '        address[1].to_bytes(2, "big"),\n',
        "",
    ),
    Mutation(
        "cookie-without-address",
        control("test_cookie_from_another_address_or_port"),
        PROTOCOL + "cookie.py",
        "        packed,\n",
        "",
    ),
    Mutation(
        "cookie-without-client",
        control("test_cookie_of_another_client"),
        PROTOCOL + "cookie.py",
        "        session_id,\n        bytes([len",
        "        bytes([len",
    ),
    Mutation(
        "cookie-with-any-ack",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if not _FIRST_IDS.issuperset(packet.acks):",
        "if False:",
    ),
    Mutation(
        "cookie-with-any-message",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "packet.message_id not in _FIRST_IDS:",
        "packet.message_id < 0:",
    ),
    Mutation(
        "cookie-with-any-key-id",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if packet.key_id:",
        "if packet.key_id < 0:",
    ),
    Mutation(
        "cookie-with-any-opcode",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if packet.opcode not in (Opcode.CONTROL_V1,",
        "if packet.opcode in () and (Opcode.CONTROL_V1,",
    ),
    Mutation(
        "cookie-not-demanded",
        protocol("test_cookie", "test_client_that_cannot_answer_a_cookie"),
        PROTOCOL + "cookie.py",
        "if not capable and not self._allow_noncookie:",
        "if False:",
    ),
    Mutation(
        "answers-without-limit",
        control("test_one_source_cannot_use_up_the_answers_for_all"),
        PROTOCOL + "cookie.py",
        "if not self._limiter.allow(address, now):",
        "if False:",
    ),
    Mutation(
        "one-limit-for-all",
        control("test_one_source_cannot_use_up_the_answers_for_all"),
        PROTOCOL + "ratelimit.py",
        "return packed[: (IPV4_PREFIX if len(packed) == 4 else IPV6_PREFIX) // 8]",
        'return b""',
    ),
    Mutation(
        "limiter-grows",
        protocol("test_ratelimit", "test_memory_is_bounded_and_the_quiet_are_forgotten_first"),
        PROTOCOL + "ratelimit.py",
        "if len(self._buckets) >= self._max_prefixes:",
        "if False:",
    ),
    Mutation(
        "control-ack-count-unbounded",
        control("test_every_length_of_every_opcode"),
        PROTOCOL + "wire.py",
        "if count > MAX_ACKS:",
        "if count > 255:",
    ),
    Mutation(
        "control-acks-cut-off",
        control("test_every_length_of_every_opcode"),
        PROTOCOL + "wire.py",
        "if offset > len(body):",
        "if False:",
    ),
    Mutation(
        "control-message-id-cut-off",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if offset + 4 > len(body):",
        "if offset > len(body):",
    ),
    Mutation(
        "control-session-id-zero",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if session_id == _NO_SESSION:",
        "if False:",
    ),
    Mutation(
        "control-packet-of-any-size",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if len(data) > MAX_CONTROL_PACKET:",
        "if False:",
    ),
    Mutation(
        "tls-auth-not-compared",
        control("test_unauthentic_reset_is_never_answered"),
        PROTOCOL + "wrap/tls_auth.py",
        "if not hmac.compare_digest(",
        "if not numbers and hmac.compare_digest(",
    ),
    Mutation(
        "tls-crypt-not-compared",
        control("test_unauthentic_reset_is_never_answered"),
        PROTOCOL + "siv.py",
        "return plain if hmac.compare_digest(tag, self._tag(associated + plain)) else None",
        "return plain if tag else None",
    ),
    Mutation(
        "control-replay-accepted",
        protocol("test_wrap_identity", "test_same_bytes_twice_are_a_replay"),
        PROTOCOL + "replay.py",
        "if self._seen >> behind & 1:",
        "if False:",
    ),
    Mutation(
        "control-replay-of-old-time",
        control("test_replay_ids_wrap_without_a_repetition"),
        PROTOCOL + "replay.py",
        "if net_time < self._net_time:",
        "if False:",
    ),
    Mutation(
        "control-replay-after-the-window",
        protocol("test_replay", "test_id_may_be_late_for_fifteen_seconds"),
        PROTOCOL + "replay.py",
        "if replay_id <= self._floor:",
        "if False:",
    ),
    Mutation(
        "replay-time-stands-still",
        control("test_replay_ids_wrap_without_a_repetition"),
        PROTOCOL + "replay.py",
        "following = max(int(now), self._net_time + 1)",
        "following = self._net_time",
    ),
    Mutation(
        "client-key-replaced",
        control("test_client_key_is_not_set_up_twice"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if wrapped_key != self._wrapped_key:",
        "if False:",
    ),
    Mutation(
        "client-key-length-believed",
        protocol("test_statickey", "test_stated_length_is_checked_before_use"),
        PROTOCOL + "statickey.py",
        "return stated if MIN_CLIENT_KEY <= stated <= min(MAX_CLIENT_KEY, len(data)) else None",
        "return stated",
    ),
    Mutation(
        "client-key-where-none-belongs",
        protocol("test_wrap_identity", "test_client_keys_belong_to_tls_crypt_v2"),
        PROTOCOL + "wrap/base.py",
        "if header.opcode.has_client_key:",
        "if False:",
    ),
    Mutation(
        "client-key-of-any-age",
        protocol("test_wrap_v2", "test_age_of_a_key"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if issued_at is None or now - issued_at > self.max_age_s:",
        "if issued_at is None:",
    ),
    Mutation(
        "metadata-verdict-ignored",
        protocol("test_cookie", "test_metadata_are_verified_after_the_cookie_only"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if accepted is not True:",
        "if False:",
    ),
    Mutation(
        "metadata-verified-before-the-cookie",
        protocol("test_cookie", "test_metadata_are_verified_after_the_cookie_only"),
        PROTOCOL + "wrap/front.py",
        "        opened = issued.opened\n",
        "        v2.check(issued.metadata, 0)\n        opened = issued.opened\n",
    ),
    Mutation(
        "old-protection-after-renegotiation",
        protocol("test_wrap_dynamic", "test_old_protection_is_refused_for_later_key_ids"),
        PROTOCOL + "wrap/dynamic.py",
        "return self._dynamic if key_id and",
        "return self._dynamic if key_id > 7 and",
    ),
    Mutation(
        "client-key-with-later-key-ids",
        protocol("test_wrap_v2", "test_key_is_resent_in_message_one_of_key_id_zero_only"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "is_first = packet.key_id == 0 and packet.message_id == 1",
        "is_first = packet.message_id == 1",
    ),
    Mutation(
        "static-key-in-repr",
        control("test_no_key_in_any_error_or_repr"),
        PROTOCOL + "statickey.py",
        "    data: bytes = field(repr=False)\n",
        "    data: bytes\n",
    ),
]
