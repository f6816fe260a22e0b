from __future__ import annotations

import errno
import pickle

import pytest

import ovpn_dco as dco
from ovpn_dco.errors import _CLASSES, LoginRefused, error_for


def test_every_error_is_an_oserror_with_its_errno() -> None:
    for number, kind in _CLASSES.items():
        error = error_for(number, "thing is wrong", attribute="thing")
        assert type(error) is kind
        assert isinstance(error, dco.DcoError)
        assert isinstance(error, OSError)
        assert error.errno == number
        assert error.attribute == "thing"
        assert str(error) == f"thing is wrong [{errno.errorcode[number]}]"


def test_an_errno_without_a_class_is_a_plain_dco_error() -> None:
    error = error_for(errno.ENETUNREACH, "no way")
    assert type(error) is dco.DcoError
    assert error.attribute is None
    assert str(error) == "no way [ENETUNREACH]"


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.EINVAL, ValueError),
        (errno.ERANGE, ValueError),
        (errno.EPERM, PermissionError),
        (errno.EACCES, PermissionError),
        (errno.EAGAIN, BlockingIOError),
    ],
)
def test_builtin_handlers_catch_what_they_mean(number: int, builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise error_for(number, "text")


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(error_for(errno.EEXIST, "taken", attribute="peer_id")))
    assert type(error) is dco.AlreadyExists
    assert (error.errno, error.strerror, error.attribute) == (errno.EEXIST, "taken", "peer_id")


@pytest.mark.parametrize("reason", ["", "the account is locked"])
def test_refused_login_keeps_its_reason(reason: str) -> None:
    error = pickle.loads(pickle.dumps(LoginRefused(reason)))
    assert isinstance(error, PermissionError)
    assert (error.errno, error.reason) == (errno.EACCES, reason)
    assert reason in str(error)
