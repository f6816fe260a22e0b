"""Secrets that a configuration leaves open, asked of whoever sits at the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Protocol, TypeVar

import click
from cryptography.hazmat.primitives.serialization import pkcs12

from ovpn_dco.config import AuthConfig, ClientConfig, Credentials, ServerConfig, TlsConfig
from ovpn_dco.protocol.challenge import CrText, DynamicChallenge, StaticAnswer

__all__ = ["Ask", "answer", "ask_at_terminal", "has_terminal", "with_key_password", "with_login"]

Config = TypeVar("Config", ClientConfig, ServerConfig)


class Ask(Protocol):
    """Puts one question and returns the answer, which is shown while it is typed unless `hidden`.

    UsageError, with `instead` as what else can be done, if there is nobody to ask."""

    def __call__(self, question: str, *, hidden: bool, instead: str) -> str:
        """Ask."""
        ...


def has_terminal() -> bool:
    """Whether somebody is there to ask."""
    return sys.stdin.isatty()


def ask_at_terminal(question: str, *, hidden: bool, instead: str) -> str:
    """The `Ask` of the command line."""
    if not has_terminal():
        raise click.UsageError(f"there is no terminal to ask for {question.lower()!r}: {instead}")
    answer: str = click.prompt(question, hide_input=hidden, err=True)
    return answer


def with_key_password(config: Config, ask: Ask) -> Config:
    """The configuration with the passphrase of its key, if that takes one."""
    tls = config.tls
    if tls.key_password is not None or not (tls.ask_key_password or _is_encrypted(tls)):
        return config
    instead = "name a file with it, askpass FILE"
    password = ask("Passphrase of the private key", hidden=True, instead=instead)
    return replace(config, tls=replace(tls, key_password=password))


def _is_encrypted(tls: TlsConfig) -> bool:
    if tls.key is not None:
        return b"ENCRYPTED" in tls.key.data
    if tls.pkcs12 is None:
        return False
    try:
        pkcs12.load_pkcs12(tls.pkcs12.data, None)
    except ValueError:
        return True
    return False


def with_login(config: ClientConfig, ask: Ask) -> ClientConfig:
    """The configuration with user name, password, and in it the answer to a static challenge."""
    auth = config.auth
    if not auth.user_pass:
        return config
    instead = "name a file with user name and password, auth-user-pass FILE"
    known = auth.credentials
    username = known.username if known else ask("User name", hidden=False, instead=instead)
    password = known.password if known else None
    if password is None:
        password = "" if auth.username_only else ask("Password", hidden=True, instead=instead)
    password = _answered(auth, password, ask)
    # The challenge is answered: nobody is to ask it again.
    auth = replace(auth, credentials=Credentials(username, password), challenge=None)
    return replace(config, auth=auth)


def _answered(auth: AuthConfig, password: str, ask: Ask) -> str:
    if auth.challenge is None:
        return password
    hidden = not auth.challenge_echo
    response = ask(auth.challenge, hidden=hidden, instead="only a person can answer")
    if auth.challenge_concatenated:
        return password + response
    return StaticAnswer(password, response).as_password()


def answer(ask: Ask, question: CrText | DynamicChallenge) -> str:
    """To a question that the server asks during the login."""
    return ask(question.text, hidden=not question.echo, instead="only a person can answer")
