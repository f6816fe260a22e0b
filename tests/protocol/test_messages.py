"""Control messages: text to value, value to text, and any stream of bytes to values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.protocol.challenge import DynamicChallenge
from ovpn_dco.protocol.messages import (
    MAX_MESSAGE,
    MAX_RECEIVED,
    Advance,
    AuthFailed,
    AuthFailedTemporarily,
    AuthPending,
    ChallengeIssued,
    CrResponse,
    Exit,
    Halt,
    Info,
    InfoPre,
    Message,
    MessageReader,
    PushReply,
    PushRequest,
    PushUpdate,
    Refused,
    Restart,
    SessionExpired,
    Unknown,
    challenge_message,
    encode,
    parse,
)
from ovpn_dco.protocol.text import TextRefused

PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=60
)
CHALLENGE = "CRV1:R,E:abc:Y3Ix:PIN, please"

CANONICAL = [
    ("PUSH_REQUEST", PushRequest()),
    ("PUSH_REPLY", PushReply()),
    ("PUSH_REPLY,ping 2,peer-id 0", PushReply(("ping 2", "peer-id 0"))),
    ("PUSH_UPDATE,-route,?dns x", PushUpdate(("-route", "?dns x"))),
    ("AUTH_FAILED", AuthFailed()),
    ("AUTH_FAILED,wrong, really", AuthFailed("wrong, really")),
    ("AUTH_FAILED,SESSION: token expired", SessionExpired("token expired")),
    ("AUTH_FAILED,SESSION", SessionExpired()),
    ("AUTH_FAILED,TEMP", AuthFailedTemporarily()),
    ("AUTH_FAILED,TEMP[backoff 42,advance no]: full",
     AuthFailedTemporarily("full", backoff_s=42, advance=Advance.NO)),
    ("AUTH_FAILED,TEMP[advance addr]: full", AuthFailedTemporarily("full",
    advance=Advance.ADDRESS)),
    ("AUTH_FAILED," + CHALLENGE,
     ChallengeIssued(CHALLENGE, challenge=DynamicChallenge(
         "abc", "cr1", "PIN, please", echo=True, response_required=True))),
    ("AUTH_PENDING", AuthPending()),
    ("AUTH_PENDING,timeout 30", AuthPending(30)),
    ("INFO,OPEN_URL:https://a/", Info("OPEN_URL:https://a/")),
    ("INFO_PRE,CR_TEXT:R:PIN?", InfoPre("CR_TEXT:R:PIN?")),
    ("CR_RESPONSE,MTIzNA==", CrResponse("1234")),
    ("RESTART", Restart()),
    ("RESTART,[N]", Restart(next_remote=True)),
    ("RESTART,[PN]bye", Restart("bye", keep_password=True, next_remote=True)),
    ("HALT,go away", Halt("go away")),
    ("HALT", Halt()),
    ("EXIT", Exit()),
    ("ACC,proto,3,A,abc", Unknown("ACC,proto,3,A,abc")),
    ("NEWS,\u00fcber", Unknown("NEWS,\u00fcber")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CANONICAL, ids=lambda value: str(value)[:24])
def test_both_ways(text: str, message: Message) -> None:
    assert parse(text.encode()) == message
    assert encode(message) == text.encode() + b"\0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PUSH_REQUEST\r\n", PushRequest()),
        ("PUSH_REPLY,,ping 2,", PushReply(("ping 2",))),
        ("AUTH_FAILED,TEMP[backoff x,advance up,color red,advance remote]:full",
         AuthFailedTemporarily("full", advance=Advance.REMOTE)),
        ("AUTH_FAILED,TEMP[backoff 9999999999]", AuthFailedTemporarily()),
        ("AUTH_FAILED,TEMPORARY", AuthFailed("TEMPORARY")),
        ("AUTH_FAILED,SESSIONS", AuthFailed("SESSIONS")),
        ("AUTH_FAILED,CRV1:broken", AuthFailed("CRV1:broken")),
        ("AUTH_PENDING,timeout x", AuthPending()),
        ("AUTH_PENDING,color red,timeout 7", AuthPending(7)),
        ("AUTH_PENDING,timeout 9999999999", AuthPending(0xFFFFFFFF)),
        ("RESTART,[X]bye", Restart("bye")),
        ("RESTART,[no flags]bye", Restart("[no flags]bye")),
        ("HALT,[N]bye", Halt("bye")),
        ("EXITING", Unknown("EXITING")),
        ("INFO", Info("")),
        ("push_request", Unknown("push_request")),
    ],
)  # fmt: skip
def test_what_is_read_with_goodwill(text: str, message: Message) -> None:
    assert parse(text.encode()) == message


@pytest.mark.parametrize(
    "message",
    [
        AuthFailed("TEMP"),
        AuthFailed("SESSION: x"),
        AuthFailed(CHALLENGE),
        AuthFailed("two\nlines"),
        PushReply(("a,b",)),
        PushReply(("",)),
        PushUpdate(("x\0y",)),
        AuthPending(-1),
        AuthFailedTemporarily(backoff_s=-1),
        Unknown("EXIT"),
        Unknown("PUSH_REPLY,x"),
        Info("x" * MAX_MESSAGE),
        CrResponse("\ud800"),
        Halt(" trailing\r"),
    ],
    ids=repr,
)
def test_what_would_be_misread_is_not_sent(message: Message) -> None:
    with pytest.raises(TextRefused):
        encode(message)


@pytest.mark.parametrize("text", ["CR_RESPONSE,=", "CR_RESPONSE,@@", "CR_RESPONSE,Cg=="])
def test_response_with_a_bad_form(text: str) -> None:
    with pytest.raises(TextRefused, match="CR_RESPONSE"):
        parse(text.encode())


def test_a_bracket_of_the_text_is_no_flag() -> None:
    for message in (Restart("[P] x"), Halt("[N] x"), Restart("[N]", keep_password=True)):
        assert parse(encode(message)[:-1]) == message


def test_challenge_message() -> None:
    question = DynamicChallenge("id", "alice", "PIN")
    assert encode(challenge_message(question)) == b"AUTH_FAILED,CRV1::id:YWxpY2U=:PIN\0"


def test_longest() -> None:
    data = encode(Info("x" * (MAX_MESSAGE - 1 - len("INFO,"))))
    assert len(data) == MAX_MESSAGE
    assert isinstance(parse(b"INFO," + b"x" * (MAX_RECEIVED - 6)), Info)
    with pytest.raises(TextRefused, match="longer"):
        parse(b"INFO," + b"x" * (MAX_RECEIVED - 5))


def test_secrets_are_not_shown() -> None:
    push = PushReply(("ping 2", "auth-token SECRET", "auth-token-user SECRET"))
    assert "SECRET" not in repr((push, PushUpdate(push.options), CrResponse("SECRET")))
    assert "ping 2" in repr(push)
    (refused,) = MessageReader().receive(b"PUSH_REPLY,auth-token SECRET\x01\0")
    assert "SECRET" not in repr(refused)
    (refused,) = MessageReader().receive(b"PUSH_REPLY,auth-token SECRET" + b"x" * 3000 + b"\0")
    assert "SECRET" not in repr(refused)
    with pytest.raises(TextRefused) as caught:
        encode(PushReply(("auth-token SECRET,x",)))
    assert "SECRET" not in str(caught.value)


# Streams


def test_several_in_one_record() -> None:
    reader = MessageReader()
    assert reader.receive(b"PUSH_REQUEST\0\0EXIT\0INFO,a") == (PushRequest(), Exit())
    assert reader.pending_bytes == 6
    assert reader.receive(b"b\0") == (Info("ab"),)
    assert reader.pending_bytes == 0


def test_one_that_is_refused_stops_no_other() -> None:
    reader = MessageReader()
    stream = b"EXIT\0IN\x07FO\0\xff\0" + b"y" * (2 * MAX_RECEIVED) + b"\0PUSH_REQUEST\0"
    first, *refused, last = reader.receive(stream)
    assert (first, last) == (Exit(), PushRequest())
    assert [type(item) for item in refused] == [Refused] * 3
    reasons = " ".join(item.reason for item in refused if isinstance(item, Refused))
    assert all(word in reasons for word in ("U+0007", "UTF-8", "longer"))


def test_memory_is_bounded_without_any_end() -> None:
    reader = MessageReader()
    for _ in range(100):
        assert reader.receive(b"z" * 1000) == ()
        assert reader.pending_bytes < MAX_RECEIVED
    (refused,) = reader.receive(b"\0")
    assert isinstance(refused, Refused)
    assert reader.receive(b"EXIT\0") == (Exit(),)


TEXTS = st.sampled_from([text for text, _ in CANONICAL]).map(str.encode)
PIECES = st.lists(
    st.binary(max_size=40) | TEXTS | st.just(b"\0") | st.just(b"x" * 1500), max_size=12
)


@given(PIECES, st.data())
def test_any_stream_in_any_pieces(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    whole = MessageReader().receive(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, parts = MessageReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parts += reader.receive(stream[start:end])
    assert tuple(parts) == whole
    for item in whole:
        if isinstance(item, Refused):
            assert item.preview.isprintable()
            assert item.preview.isascii()


@given(st.sampled_from(["", *{text.partition(",")[0] + "," for text, _ in CANONICAL}]), PLAIN)
def test_what_is_read_can_be_sent_again(start: str, rest: str) -> None:
    try:
        message = parse((start + rest).encode())
    except TextRefused:
        assert start == "CR_RESPONSE,"
        return
    if message != Unknown(""):
        assert parse(encode(message)[:-1]) == message


MESSAGES = (
    st.builds(PushReply, st.lists(PLAIN, max_size=4).map(tuple))
    | st.builds(PushUpdate, st.lists(PLAIN, max_size=4).map(tuple))
    | st.builds(AuthFailed, PLAIN)
    | st.builds(SessionExpired, PLAIN)
    | st.builds(
        AuthFailedTemporarily,
        PLAIN,
        backoff_s=st.none() | st.integers(0, 10**9 - 1),
        advance=st.none() | st.sampled_from(Advance),
    )
    | st.builds(AuthPending, st.none() | st.integers(0, 0xFFFFFFFF))
    | st.builds(Info, PLAIN)
    | st.builds(InfoPre, PLAIN)
    | st.builds(CrResponse, PLAIN)
    | st.builds(Restart, PLAIN, keep_password=st.booleans(), next_remote=st.booleans())
    | st.builds(Halt, PLAIN)
)


@given(MESSAGES)
def test_what_is_sent_is_read_as_it_was_meant(message: Message) -> None:
    try:
        data = encode(message)
    except TextRefused:
        # Only these can hold text that means something else.
        assert isinstance(message, (PushReply, PushUpdate, AuthFailed))
        return
    assert MessageReader().receive(data) == (message,)
