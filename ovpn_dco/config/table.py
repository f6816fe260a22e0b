"""The table of directives as Markdown, for docs/configuration.md; tools/configuration-page puts it
there, and a test checks that the page has it."""

from __future__ import annotations

from .directives import DIRECTIVES, Row, Status
from .settings import Role

_WHO = {
    Role.CLIENT: "client",
    Role.SERVER: "server",
    Role.BOTH: "both",
    Role.CCD: "one client",
    Role.SERVER | Role.CCD: "server, one client",
    Role.BOTH | Role.CCD: "all",
}
_HEAD = ("| directive | where | arguments | remark |", "|---|---|---|---|")


def directive_table() -> str:
    """All directives by what becomes of them, and by name."""
    lines: list[str] = []
    for status in Status:
        rows = sorted((row for row in DIRECTIVES.values() if row.status is status), key=_name)
        lines += [f"### {status.value.capitalize()}", ""]
        lines += _refused(rows) if status is Status.REFUSED else [*_HEAD, *map(_line, rows)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _name(row: Row) -> str:
    return row.name


def _line(row: Row) -> str:
    marks = [row.text] if row.text else []
    marks += ["inline"] * row.inline + ["in `<connection>`"] * row.connection
    return f"| `{row.name}` | {_WHO[row.roles]} | {_arguments(row)} | {'; '.join(marks)} |"


def _arguments(row: Row) -> str:
    if row.most is None:
        return f"{row.least} or more"
    return str(row.least) if row.least == row.most else f"{row.least} to {row.most}"


def _refused(rows: list[Row]) -> list[str]:
    lines = [f"| `{row.name}` | {row.text} |" for row in rows]
    return ["| directive | reason |", "|---|---|", *lines]
