"""Challenges, and the requests of a pending authentication."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.protocol.challenge import (
    CrText,
    DynamicAnswer,
    DynamicChallenge,
    OpenUrl,
    StaticAnswer,
    WebAuth,
    parse_dynamic_answer,
    parse_dynamic_challenge,
    parse_pending_request,
    parse_static_answer,
)
from ovpn_dco.protocol.text import TextRefused

# Two of them fit into a password, whatever they are made of.
PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=11
)
STATE_IDS = st.from_regex(r"[!-9;-~]{1,30}", fullmatch=True)


def test_static_answer() -> None:
    text = StaticAnswer("pass:word", "123456").as_password()
    assert text == "SCRV1:cGFzczp3b3Jk:MTIzNDU2"
    assert parse_static_answer(text) == StaticAnswer("pass:word", "123456")
    assert parse_static_answer("a plain password") is None


@pytest.mark.parametrize(
    "text",
    ["SCRV1:", "SCRV1:YQ==", "SCRV1:YQ==:YQ==:", "SCRV1:YQ:YQ==", "SCRV1:YR==:YQ==",
     "SCRV1:Y Q=:YQ==", "SCRV1:Cg==:YQ==", "SCRV1:/w==:YQ==", "SCRV1:\u00e4:YQ=="],
)  # fmt: skip
def test_static_answer_with_a_bad_form(text: str) -> None:
    with pytest.raises(TextRefused):
        parse_static_answer(text)


def test_dynamic_challenge() -> None:
    question = DynamicChallenge(
        "Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l", "cr1", "Please enter token PIN", response_required=True
    )
    text = "CRV1:R:Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l:Y3Ix:Please enter token PIN"
    assert str(question) == text
    assert parse_dynamic_challenge(text) == question
    answer = question.answer("8675309")
    assert answer.as_password() == "CRV1::Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l::8675309"
    assert parse_dynamic_answer(answer.as_password()) == answer


def test_text_may_have_colons_and_flags_may_be_new() -> None:
    question = parse_dynamic_challenge("CRV1:E,X,R:id:Y3Ix:a:b:c")
    assert question == DynamicChallenge("id", "cr1", "a:b:c", echo=True, response_required=True)
    assert parse_dynamic_challenge("wrong password") is None


@pytest.mark.parametrize(
    "text", ["CRV1:", "CRV1:R:id:Y3Ix", "CRV1:R::Y3Ix:x", "CRV1:R:a b:Y3Ix:x", "CRV1:R:id:Y3I:x",
             "CRV1:R:" + "i" * 256 + ":Y3Ix:x", "CRV1:R:id:Y3Ix:" + "x" * 513]
)  # fmt: skip
def test_dynamic_challenge_with_a_bad_form(text: str) -> None:
    with pytest.raises(TextRefused):
        parse_dynamic_challenge(text)


@pytest.mark.parametrize(
    "text", ["CRV1:", "CRV1::id:x:y", "CRV1:R:id::y", "CRV1::::y", "CRV1::a\n::y"]
)
def test_dynamic_answer_with_a_bad_form(text: str) -> None:
    with pytest.raises(TextRefused):
        parse_dynamic_answer(text)


def test_answers_are_not_shown() -> None:
    assert "secret" not in repr(StaticAnswer("secret", "secret"))
    assert "secret" not in repr(DynamicAnswer("id", "secret"))


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("OPEN_URL:https://a.example/x?y=z&w=%20", OpenUrl("https://a.example/x?y=z&w=%20")),
        ("WEB_AUTH::https://a.example/", WebAuth("https://a.example/")),
        ("WEB_AUTH:hidden,external:https://a/", WebAuth("https://a/", ("hidden", "external"))),
        ("CR_TEXT:E,R:Your code?", CrText("Your code?", echo=True, response_required=True)),
        ("CR_TEXT::a:b", CrText("a:b")),
    ],
)
def test_pending_requests(text: str, request_: object) -> None:
    assert parse_pending_request(text) == request_
    assert str(request_) == text


@pytest.mark.parametrize("text", ["", "hello", "NEW_KIND:x", "proxy: none"])
def test_other_information(text: str) -> None:
    assert parse_pending_request(text) is None


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "javascript:alert(1)", "https://a/ b", "https://a/`id`",
    "https://a/$(id)",
     "https://a/'",
     'https://a/"', "https://a/\\", "https://a/|x", "https://a/<x>", "https://\u00e4/",
     "-x https://a/", "https://a/\n"],
)  # fmt: skip
def test_address_that_nobody_should_open(url: str) -> None:
    for text in (f"OPEN_URL:{url}", f"WEB_AUTH::{url}"):
        with pytest.raises(TextRefused):
            parse_pending_request(text)


@pytest.mark.parametrize("text", ["CR_TEXT:R", "WEB_AUTH:x", "WEB_AUTH:a b:https://a/"])
def test_pending_request_with_a_bad_form(text: str) -> None:
    with pytest.raises(TextRefused):
        parse_pending_request(text)


@given(PLAIN, PLAIN)
def test_static_answers_are_read_as_built(password: str, response: str) -> None:
    answer = StaticAnswer(password, response)
    assert parse_static_answer(answer.as_password()) == answer


@given(STATE_IDS, PLAIN, PLAIN, st.booleans(), st.booleans())
def test_challenges_are_read_as_built(
    state_id: str, username: str, text: str, echo: bool, required: bool
) -> None:
    question = DynamicChallenge(state_id, username, text, echo=echo, response_required=required)
    assert parse_dynamic_challenge(str(question)) == question
    answer = question.answer(text)
    assert parse_dynamic_answer(answer.as_password()) == answer


@given(
    st.sampled_from(["", "SCRV1:", "CRV1:", "CRV1::", "CR_TEXT:", "WEB_AUTH:", "OPEN_URL:"]),
    st.text(),
)
def test_any_text(start: str, text: str) -> None:
    readers = (
        parse_static_answer,
        parse_dynamic_challenge,
        parse_dynamic_answer,
        parse_pending_request,
    )
    for read in readers:
        try:
            value = read(start + text)
        except TextRefused:
            continue
        if value is not None and not isinstance(value, (StaticAnswer, DynamicAnswer)):
            assert read(str(value)) == value
