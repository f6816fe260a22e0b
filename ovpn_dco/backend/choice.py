"""Which engine carries the packets of a device: decided once, when it is opened.

The kernel's driver goes first where it is there, may be used, and can do what is asked for."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DcoError
from ..model import Feature
from ..validation.rules import refuse

if TYPE_CHECKING:
    from ..netlink import Availability, Family

AUTO, KERNEL, USERSPACE = NAMES = ("auto", "kernel", "userspace")


@dataclass(frozen=True)
class Choice:
    """The name of a back end, and why it is that one."""

    name: str
    reason: str


@dataclass(frozen=True)
class Standing:
    """A back end as it is here. `obstacle`: why it cannot be used; None where it can."""

    name: str
    obstacle: str | None
    features: frozenset[Feature]


def standings() -> list[Standing]:
    """Of all back ends, the first choice first. Nothing is loaded or changed by asking."""
    found = _probe()
    return [
        Standing(KERNEL, found.reason, _kernel_features(found.family)),
        Standing(USERSPACE, None, _userspace_features()),
    ]


def choose(asked: str, needs: Mapping[Feature, str]) -> Choice:
    """`asked` is one of NAMES; `needs` says of each feature which argument takes it.

    InvalidArgument for what is no back end or feature; UnsupportedError for what the one that was
    asked for does not have, PermissionDenied where it may not be used."""
    if asked not in NAMES:
        raise refuse(errno.EINVAL, "backend", f"must be auto, kernel or userspace, not {asked!r}")
    for feature, argument in needs.items():
        if not isinstance(feature, Feature):
            raise refuse(errno.EINVAL, argument, f"holds {feature!r}, which is no Feature")
    if asked == USERSPACE:
        return Choice(USERSPACE, "as asked for")
    found = _probe()
    if found.reason is not None:
        if asked == AUTO:
            return Choice(USERSPACE, found.reason)
        number = errno.EOPNOTSUPP if found.permitted else errno.EPERM
        raise refuse(number, "backend", f"cannot be kernel: {found.reason}")
    try:
        _check_features(found.family or _load(), needs)
    except DcoError as error:
        if asked == KERNEL:
            raise
        return Choice(USERSPACE, error.strerror or "")
    return Choice(KERNEL, "as asked for" if asked == KERNEL else "it does all that is asked for")


def _check_features(family: Family, needs: Mapping[Feature, str]) -> None:
    for feature in sorted(needs.keys() - _kernel_features(family), key=lambda one: one.name):
        text = f"takes {feature.value}, which the kernel's driver does not have"
        raise refuse(errno.EOPNOTSUPP, needs[feature], text)


# pyroute2 is imported when a device is opened, not before.


def _probe() -> Availability:
    from ..netlink import probe

    return probe()


def _load() -> Family:
    from ..netlink import find_family

    return find_family()


def _kernel_features(family: Family | None) -> frozenset[Feature]:
    """Of a driver that is not loaded what every version has."""
    from .kernel import features_of

    return features_of(family)


def _userspace_features() -> frozenset[Feature]:
    from .userspace import FEATURES

    return FEATURES
