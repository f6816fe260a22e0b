"""``status``: what there is on this machine for a tunnel."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from ovpn_dco.backend.choice import Standing, standings
from ovpn_dco.model import Feature

__all__ = ["status"]


@click.command()
@click.option("--backends", is_flag=True, required=True, help="What can carry packets here.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(backends: bool, as_json: bool) -> None:
    """Show what is available on this machine, and why the rest is not.

    Nothing is loaded or changed by asking. The first back end that can be used and has all
    features that are asked for is what `auto` means.
    """
    found = standings()
    if as_json:
        click.echo(json.dumps([_plain(one) for one in found], indent=2))
    else:
        Console().print(_table(found))


def _plain(one: Standing) -> dict[str, object]:
    return {**asdict(one), "features": sorted(feature.name for feature in one.features)}


def _table(found: Iterable[Standing]) -> Table:
    """A column for each back end, a row for each feature."""
    columns = list(found)
    table = Table("", *(one.name for one in columns))
    table.add_row("can be used", *(one.obstacle or "yes" for one in columns), end_section=True)
    for feature in Feature:
        table.add_row(feature.value, *("yes" if feature in one.features else "" for one in columns))
    return table
