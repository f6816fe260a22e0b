"""Any text is a configuration or a `ConfigError`; any word survives its quotes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from config_files import CLIENT, FILES, SERVER, Files
from hypothesis import assume, given
from hypothesis import strategies as st

from ovpn_dco.config import (
    ClientConfig,
    ConfigError,
    RemoteConfig,
    ServerConfig,
    parse_client,
    parse_client_overrides,
    parse_server,
    write_client,
)
from ovpn_dco.config.directives import DIRECTIVES
from ovpn_dco.config.lexer import lex, quote, split_words
from ovpn_dco.config.problems import Refusal

WORDS = st.one_of(
    st.sampled_from(
        "0 1 -1 70000 udp tcp none server client 10.8.0.0 255.255.255.0 fd00::/64 fd00::1 ca.crt "
        "own.key login [inline] AES-256-GCM unix dir address DNS subnet infinite".split()
    ),
    st.text(max_size=12),
)
NAMES = st.sampled_from(sorted(DIRECTIVES))
LINES = st.one_of(
    st.builds(lambda name, words: " ".join([name, *words]), NAMES, st.lists(WORDS, max_size=4)),
    st.builds(lambda name, body: f"<{name}>\n{body}\n</{name}>", NAMES, st.text(max_size=40)),
    st.builds(
        lambda name, words: f"<connection>\nremote a\n{name} {' '.join(words)}\n</connection>",
        NAMES,
        st.lists(WORDS, max_size=3),
    ),
    st.text(max_size=40),
)
TEXTS = st.lists(LINES, max_size=12).map("\n".join)
Parse = Callable[..., object]


def refusal(parse: Parse, text: str, files: Files) -> ConfigError | None:
    """How a text is refused, if it is."""
    try:
        parse(text, read_file=files)
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize("parse", [parse_client, parse_server, parse_client_overrides])
@given(text=TEXTS)
def test_any_text_gives_a_configuration_or_a_config_error(parse: Parse, text: str) -> None:
    error = refusal(parse, text, Files(FILES))
    last = text.count("\n") + 1
    if error is not None:
        assert error.problems
        # A nested file has lines of its own.
        mine = [problem for problem in error.problems if problem.source == "<text>"]
        assert all(0 <= problem.line <= last and problem.reason for problem in mine)


@given(text=TEXTS)
def test_what_was_accepted_has_the_types_that_it_says(text: str) -> None:
    for parse, base, kind in (
        (parse_client, CLIENT, ClientConfig),
        (parse_server, SERVER, ServerConfig),
    ):
        try:
            config = parse(base + text, read_file=Files(FILES))
        except ConfigError:
            continue
        assert isinstance(config, kind)
        assert 0 <= config.transport.local_port <= 65535
        assert config.data.ciphers
        assert config.requirements()


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_configuration_or_a_config_error(data: bytes) -> None:
    error = refusal(parse_client, CLIENT + "config more", Files(FILES | {"more": data}))
    assert error is None or {problem.source for problem in error.problems} <= {"more", "<text>"}


@given(word=st.text())
def test_quotes_are_undone(word: str) -> None:
    try:
        written = quote(word)
    except ValueError:
        assume("'" not in word)
        with pytest.raises(Refusal):
            split_words(f"x '{word}'")
        return
    assert split_words(f"x {written} y") == ("x", word, "y")


@given(text=st.text())
def test_directives_stand_on_the_lines_that_they_say(text: str) -> None:
    lines = text.split("\n")
    directives, problems = lex(text, "x")
    for directive in directives:
        assert directive.name.split()[0:1] == [directive.name] or directive.inline is None
        assert 1 <= directive.line <= len(lines)
    assert all(1 <= problem.line <= len(lines) for problem in problems)


@given(host=st.text(max_size=30))
def test_no_host_brings_another_directive_into_a_profile(host: str) -> None:
    base = parse_client(CLIENT, read_file=Files(FILES))
    config = ClientConfig(remotes=(RemoteConfig(host=host),), tls=base.tls, verify=base.verify)
    try:
        text = write_client(config)
    except ValueError:
        return
    assert parse_client(text) == config
