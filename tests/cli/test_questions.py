"""What is asked at the terminal, and what becomes of the answers."""

from __future__ import annotations

import io
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from cli.fakes import Answers, FakeEndpoint, client_file, raises_signal, server_file
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from ovpn_dco.cli.authority import Authority
from ovpn_dco.cli.main import main
from ovpn_dco.cli.questions import with_key_password, with_login
from ovpn_dco.cli.tunnel import Surroundings
from ovpn_dco.config import (
    ClientConfig,
    Credentials,
    Material,
    TlsConfig,
    parse_client,
    parse_server,
)
from ovpn_dco.protocol.challenge import CrText, DynamicChallenge

LOCK = BestAvailableEncryption(b"open sesame")


class Terminal(io.BytesIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def client(folder: Path, *lines: str) -> ClientConfig:
    return parse_client(client_file(folder, *lines))


# Logins


def test_nothing_is_asked_without_auth_user_pass(tmp_path: Path) -> None:
    config = client(tmp_path)
    assert with_login(config, Answers()) == config


def test_name_is_shown_and_password_hidden(tmp_path: Path) -> None:
    ask = Answers(name="alice", password="secret")
    config = with_login(client(tmp_path, "auth-user-pass"), ask)
    assert ask.asked == [("User name", False), ("Password", True)]
    assert config.auth.credentials == Credentials("alice", "secret")


@pytest.mark.parametrize(
    ("content", "asked"),
    [("alice\nsecret\n", []), ("alice\n", [("Password", True)])],
)
def test_what_the_file_knows_is_not_asked(
    tmp_path: Path, content: str, asked: list[tuple[str, bool]]
) -> None:
    (tmp_path / "login").write_text(content)
    ask = Answers(password="secret")
    config = with_login(client(tmp_path, "auth-user-pass login"), ask)
    assert ask.asked == asked
    assert config.auth.credentials == Credentials("alice", "secret")


def test_username_only_has_no_password(tmp_path: Path) -> None:
    ask = Answers(name="alice")
    config = with_login(client(tmp_path, "auth-user-pass username-only"), ask)
    assert config.auth.credentials == Credentials("alice", "")


@pytest.mark.parametrize(
    ("form", "password"),
    [("", "SCRV1:c2VjcmV0:MTIz"), ("scrv1", "SCRV1:c2VjcmV0:MTIz"), ("concat", "secret123")],
)
@pytest.mark.parametrize("echo", [0, 1])
def test_a_static_challenge_is_answered_within_the_password(
    tmp_path: Path, form: str, password: str, echo: int
) -> None:
    ask = Answers(name="alice", password="secret", pin="123")
    lines = ["auth-user-pass", f'static-challenge "Your PIN" {echo} {form}']
    config = with_login(client(tmp_path, *lines), ask)
    assert ask.asked[-1] == ("Your PIN", echo == 0)
    assert config.auth.credentials == Credentials("alice", password)
    assert config.auth.challenge is None


# Keys


def key_of(pem: bytes, lock: KeySerializationEncryption, form: PrivateFormat) -> bytes:
    return load_pem_private_key(pem, None).private_bytes(Encoding.PEM, form, lock)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_the_passphrase_of_a_locked_key_is_asked_for(form: PrivateFormat) -> None:
    key = Material(key_of(Authority.create("x").key, LOCK, form))
    ask = Answers(key="open sesame")
    config = with_key_password(ClientConfig(tls=TlsConfig(key=key)), ask)
    assert ask.asked == [("Passphrase of the private key", True)]
    assert config.tls.key_password == "open sesame"


@pytest.mark.parametrize("lock", [LOCK, NoEncryption()])
def test_a_locked_pkcs12_is_told_from_an_open_one(lock: KeySerializationEncryption) -> None:
    authority = Authority.create("x")
    key = load_pem_private_key(authority.key, None)
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    bundle = pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, lock)
    ask = Answers(key="open sesame")
    config = with_key_password(ClientConfig(tls=TlsConfig(pkcs12=Material(bundle))), ask)
    assert config.tls.key_password == ("open sesame" if lock is LOCK else None)


def test_askpass_asks_for_any_key(tmp_path: Path) -> None:
    ask = Answers(key="open sesame")
    config = with_key_password(parse_server(server_file(tmp_path, "askpass")), ask)
    assert config.tls.key_password == "open sesame"


def test_a_key_without_a_lock_is_not_asked_about(tmp_path: Path) -> None:
    config = client(tmp_path)
    assert with_key_password(config, Answers()) == config


def test_a_passphrase_from_a_file_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("open sesame\n")
    config = client(tmp_path, "askpass pass")
    assert with_key_password(config, Answers()) == config


# The terminal itself


def test_answers_are_typed_at_a_terminal(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(raises_signal(signal.SIGTERM, "waiting"))
    file = client_file(tmp_path, "auth-user-pass", 'static-challenge "Your PIN" 0')
    result = CliRunner().invoke(
        main,
        ["client", str(file)],
        obj=Surroundings(client=endpoint),
        input=Terminal(b"alice\nsecret\n123\n"),
    )
    assert result.exit_code == 0, result.output
    assert endpoint.config.auth.credentials == Credentials("alice", "SCRV1:c2VjcmV0:MTIz")
    for question in ("User name:", "Password:", "Your PIN:"):
        assert question in result.output
    assert "alice" in result.output
    assert "secret" not in result.output
    assert "123" not in result.output


@pytest.mark.parametrize(
    "question", [CrText("Your PIN"), DynamicChallenge("1", "alice", "Your PIN")]
)
@pytest.mark.parametrize("echo", [False, True])
def test_questions_of_the_server_are_passed_on(
    tmp_path: Path, question: CrText | DynamicChallenge, echo: bool
) -> None:
    def during(step: str) -> None:
        if step == "started":
            answers.append(endpoint.options["answer"](replace(question, echo=echo)))
        raises_signal(signal.SIGTERM, "waiting")(step)

    answers: list[str] = []
    endpoint, ask = FakeEndpoint(during), Answers(pin="123")
    arguments = ["client", str(client_file(tmp_path))]
    surroundings = Surroundings(client=endpoint, ask=ask)
    result = CliRunner().invoke(main, arguments, obj=surroundings, input=Terminal())
    assert result.exit_code == 0, result.output
    assert answers == ["123"]
    assert ask.asked == [("Your PIN", not echo)]


def test_the_host_of_quickstart_is_asked_until_it_is_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["quickstart", str(tmp_path / "vpn")], input=Terminal(b"a;b\nvpn.example\n")
    )
    assert result.exit_code == 0, result.output
    assert "'a;b' is no host name" in result.output
    assert parse_client(tmp_path / "vpn/client.ovpn").remotes[0].host == "vpn.example"
