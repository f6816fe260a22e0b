"""PUSH_UPDATE: changes of pushed options while connected.

    -option    takes all options of that name away
    option ... replaces them at its first occurrence in an update, adds at later ones
    ?option    as above, but passed over where it cannot be used; -?option likewise

An update takes effect as a whole or not at all. Keys, cipher and peer id never change by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .options import Number, Option
from .push import NOT_PULLED, Ignored, PullFilter, Pushed, filter_options, parse_option
from .text import MAX_OPTION, TextRefused, check_text, number_of, shown, split_words

__all__ = ["UPDATABLE", "Change", "apply_update", "parse_change"]

UPDATABLE = frozenset(
    """block-ipv6 block-outside-dns dhcp-option dns ifconfig ifconfig-ipv6 keepalive
    redirect-gateway redirect-private route route-gateway route-ipv6 route-metric topology
    tun-mtu""".split()
)

_KEEPALIVE = ("ping", "ping-restart")


@dataclass(frozen=True)
class Change:
    """One item of an update. `text` is the option without its marks."""

    name: str
    text: str
    remove: bool
    optional: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The options that are concerned: `keepalive` stands for two."""
        return _KEEPALIVE if self.name == "keepalive" else (self.name,)


def parse_change(item: str) -> Change:
    """One item. TextRefused for `?-option`, and for arguments of an option to remove."""
    check_text(item, "option", max_bytes=MAX_OPTION)
    text = item.removeprefix("-")
    remove = text != item
    optional = text.startswith("?")
    text = text.removeprefix("?")
    name = text.partition(" ")[0]
    if not name or name[0] in "-?":
        raise TextRefused("PUSH_UPDATE", f"has no option in {shown(item)}")
    if remove and len(split_words(text)) != 1:
        raise TextRefused("PUSH_UPDATE", f"removes an option with arguments: {shown(name)}")
    return Change(name, text, remove, optional)


def apply_update(
    current: Pushed,
    items: Iterable[str],
    *,
    filters: Iterable[PullFilter] = (),
    no_pull: bool = False,
) -> Pushed:
    """The options after the update, whose items come from all its messages; `ignored` are those of
    the update. `filters` and `no_pull` are those of `push.parse_options`.

    TextRefused if an item cannot be used and is not marked as optional, in which case stock clients
    connect anew; PushRejected where a filter says so."""
    changes, ignored = _filtered(items, filters)
    options = list(current.options)
    replaced: set[str] = set()
    for change in changes:
        if no_pull and change.name in NOT_PULLED:
            ignored.append(Ignored(change.name, "is not pulled (route-nopull)"))
            continue
        try:
            added = _added(change)
        except TextRefused as error:
            if not change.optional:
                raise
            ignored.append(Ignored(shown(change.name), error.reason))
            continue
        if change.remove or change.name not in replaced:
            options = [option for option in options if option.name not in change.names]
        # After a removal, too, the next occurrence replaces nothing that is left.
        replaced.add(change.name)
        options += added
    updated = Pushed(tuple(options), tuple(ignored))
    _ = updated.tunnel_ipv4
    return updated


def _filtered(
    items: Iterable[str], filters: Iterable[PullFilter]
) -> tuple[list[Change], list[Ignored]]:
    """Filters look at the option, not at the marks before it."""
    rules = tuple(filters)
    changes: list[Change] = []
    ignored: list[Ignored] = []
    for change in map(parse_change, items):
        kept, dropped = filter_options([change.text], rules)
        changes += [change] if kept else []
        ignored += dropped
    return changes, ignored


def _added(change: Change) -> list[Option]:
    """The options that a change brings; TextRefused if it cannot be used."""
    if change.name not in UPDATABLE:
        raise TextRefused(shown(change.name), "cannot change while connected")
    if change.remove:
        return []
    if change.name == "keepalive":
        return _keepalive(split_words(change.text)[1:])
    option = parse_option(change.text)
    if isinstance(option, Ignored):
        raise TextRefused(option.name, option.reason)
    return [option]


def _keepalive(words: tuple[str, ...]) -> list[Option]:
    if len(words) != 2:
        raise TextRefused("keepalive", "needs an interval and a timeout")
    high = 86400
    numbers = (number_of(word, "keepalive", high=high) for word in words)
    return [Number(name, number) for name, number in zip(_KEEPALIVE, numbers, strict=True)]
