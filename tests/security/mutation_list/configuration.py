"""Files of OpenVPN."""

from __future__ import annotations

from .mutation import Mutation

CONFIG = "ovpn_dco/config"


def configs(name: str) -> str:
    return f"tests/config/test_security.py::{name}"


MUTATIONS = [
    # Configuration
    Mutation(
        "refused-directive-passes",
        configs("test_no_directive_runs_a_program"),
        f"{CONFIG}/parse.py",
        "if row.status is Status.REFUSED:",
        "if False:",
    ),
    Mutation(
        "control-characters-pass",
        configs("test_control_characters_are_refused_everywhere"),
        f"{CONFIG}/lexer.py",
        "        if found := _CONTROL.search(word):\n            raise Refusal",
        "        if (found := _CONTROL.search(word)) and not word:\n            raise Refusal",
    ),
    Mutation(
        "key-line-repeated",
        configs("test_a_key_that_lost_its_tag_is_not_repeated"),
        f"{CONFIG}/parse.py",
        "if _NAME.fullmatch(directive.name) is None:",
        "if False:",
    ),
    Mutation(
        "devices-are-read",
        configs("test_an_endless_file_is_no_way_to_fill_the_memory"),
        f"{CONFIG}/parse.py",
        "if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):",
        "if False:",
    ),
    Mutation(
        "domain-for-a-shell",
        configs("test_no_domain_means_anything_to_a_shell"),
        f"{CONFIG}/values.py",
        "_DOMAIN.fullmatch(word) is None",
        "_DOMAIN.match(word) is None and not word",
    ),
    Mutation(
        "compression-passes",
        configs("test_compression_of_any_kind_is_refused"),
        f"{CONFIG}/services.py",
        'if directive.arguments != ("migrate",):',
        "if False:",
    ),
    Mutation(
        "cipher-none-passes",
        configs("test_nothing_goes_in_the_clear"),
        f"{CONFIG}/values.py",
        'if name.lower() == "none":',
        "if False:",
    ),
    Mutation(
        "empty-trust",
        configs("test_a_server_lets_nobody_in_by_an_empty_trust"),
        f"{CONFIG}/settings.py",
        "if not content.data.strip():",
        "if False:",
    ),
    Mutation(
        "common-name-is-a-path",
        "tests/config/test_ccd.py::test_names_that_lead_out_of_the_folder",
        f"{CONFIG}/overrides.py",
        'if "/" in common_name or ',
        "if ",
    ),
    Mutation(
        "open-server-is-used",
        "tests/config/test_rules.py::test_what_code_must_add_is_refused_where_it_did_not",
        f"{CONFIG}/parse.py",
        "if rule.severity is not Severity.WARNING",
        "if rule.severity is Severity.ERROR",
    ),
]
