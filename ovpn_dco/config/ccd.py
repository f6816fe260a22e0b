"""Files of `client-config-dir`: what a server does otherwise for one client."""

from __future__ import annotations

import os
from dataclasses import replace

from .overrides import ClientOverrides
from .parse import load, raise_problems
from .settings import ReadFile, Role, build


def parse_client_overrides(
    configuration: str | os.PathLike[str],
    *,
    source: str | None = None,
    read_file: ReadFile | None = None,
) -> ClientOverrides:
    """The overrides of a text, or of a file if given a path; arguments as for `parse_client`."""
    settings = load(configuration, Role.CCD, source, read_file)
    overrides = build(ClientOverrides, settings.values)
    raise_problems(settings)
    return replace(overrides, warnings=tuple(settings.warnings))
