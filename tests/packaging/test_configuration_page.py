"""docs/configuration.md has the table of directives as it is, and its examples do run."""

from __future__ import annotations

import re
from pathlib import Path

from config_files import FILES, Files

from ovpn_dco import config
from ovpn_dco.config.directives import DIRECTIVES
from ovpn_dco.config.table import directive_table

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()


def block(language: str, index: int = 0) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return blocks[index]


def test_page_and_table_agree() -> None:
    _, _, rest = PAGE.partition("<!-- directives: begin -->\n\n")
    table, _, _ = rest.partition("\n<!-- directives: end -->")
    assert table == directive_table(), "run tools/configuration-page"


def test_every_directive_is_on_the_page_once() -> None:
    for name in DIRECTIVES:
        assert PAGE.count(f"\n| `{name}` |") == 1


def test_the_refusals_shown_are_those_that_come() -> None:
    found: list[str] = []
    try:
        config.parse_client(block("text", 0), source="office.ovpn", read_file=Files(FILES))
    except config.ConfigError as error:
        found = str(error).splitlines()
    assert found == block("text", 1).splitlines()


def test_the_values_made_in_code_are_sound() -> None:
    names: dict[str, object] = {"pem": b"PEM\n"}
    exec(compile(block("python", 1), "configuration.md", "exec"), names)
    made = names["server"]
    assert isinstance(made, config.ServerConfig)
    assert config.parse_server(config.write_server(made)) == made
