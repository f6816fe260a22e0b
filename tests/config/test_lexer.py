"""Lines, words, quotes, comments and inline blocks."""

from __future__ import annotations

import pytest

from ovpn_dco.config.lexer import (
    FILE_MAX,
    INLINE_MAX,
    LINE_MAX,
    WORDS_MAX,
    Directive,
    decode,
    lex,
    quote,
    split_words,
)
from ovpn_dco.config.problems import Refusal


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ()),
        (" \t\v\f\r", ()),
        ("# all of it", ()),
        ("; all of it", ()),
        ("verb 3", ("verb", "3")),
        ("\tverb\v3 \r", ("verb", "3")),
        ("verb 3 # of it", ("verb", "3")),
        ("verb 3;4", ("verb", "3;4")),
        ("ca a#b.crt", ("ca", "a#b.crt")),
        ('push "route 10.0.0.0 255.0.0.0"', ("push", "route 10.0.0.0 255.0.0.0")),
        ("setenv a 'b \\ \" c'", ("setenv", "a", 'b \\ " c')),
        (r'ca "C:\\keys\\a b.crt"', ("ca", r"C:\keys\a b.crt")),
        (r"ca C:\\keys\\a\ b.crt", ("ca", r"C:\keys\a b.crt")),
        (r"ca a\"b", ("ca", 'a"b')),
        (r'ca "a\"b"', ("ca", 'a"b')),
        ('ca ""', ("ca", "")),
        ("ca ''", ("ca", "")),
        ('ca "a"b', ("ca", "a", "b")),
        ("ca 'a''b'", ("ca", "a", "b")),
        ('ca a"b"', ("ca", 'a"b"')),
        ("ca it's", ("ca", "it's")),
        ('ca "# in quotes"', ("ca", "# in quotes")),
        ("ca ü\u00a0x", ("ca", "ü\u00a0x")),
    ],
)
def test_words(line: str, words: tuple[str, ...]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('ca "a', "quote is not closed"),
        ("ca 'a", "quote is not closed"),
        ('ca "a\\"', "quote is not closed"),
        (r"ca C:\keys", "backslash"),
        ("ca a\\", "backslash"),
        (r"ca \#", "backslash"),
        ('ca "\\n"', "backslash"),
        ("ca a\0b", r"U\+0000"),
        ("ca a\x1b[2J", r"U\+001B"),
        ("ca a\\\tb", r"U\+0009"),
        ("ca a\x7f", r"U\+007F"),
        ("ca a\x85b", r"U\+0085"),
        ("ca a\u2028b", r"U\+2028"),
        ("ca 'a\tb'", r"U\+0009"),
        ("ca " + "a" * LINE_MAX, "longer than"),
        ("a " * (WORDS_MAX + 1), "more than"),
    ],
)
def test_words_that_are_none(line: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        split_words(line)


def test_limits_are_inclusive() -> None:
    assert len(split_words("a " * WORDS_MAX)) == WORDS_MAX
    assert split_words("a" * LINE_MAX) == ("a" * LINE_MAX,)


def test_lines_are_counted_and_named() -> None:
    directives, problems = lex("# one\r\nverb 3\r\n\r\n--mute 4\r\n", "a.conf")
    assert problems == []
    assert directives == [
        Directive("verb", ("3",), 2, None, "a.conf"),
        Directive("mute", ("4",), 4, None, "a.conf"),
    ]


def test_only_a_line_feed_ends_a_line() -> None:
    directives, problems = lex("verb\f3\nmute\v4", "a.conf")
    assert [(d.name, d.arguments, d.line) for d in directives] == [
        ("verb", ("3",), 1),
        ("mute", ("4",), 2),
    ]
    assert problems == []


def test_byte_order_mark_counts_on_the_first_line_only() -> None:
    assert lex("\ufeffverb 3", "x")[0][0].name == "verb"
    assert lex("\n\ufeffverb 3", "x")[0][0].name == "\ufeffverb"


@pytest.mark.parametrize("end", ["</ca>", "  </ca>", "\t</ca> and more"])
def test_inline_block_is_verbatim(end: str) -> None:
    text = f'verb 3\n  <ca> # comment\n-----\n "quote\n# no comment\n\n{end}\nmute 1\n'
    directives, problems = lex(text, "x")
    assert problems == []
    assert directives[1] == Directive("ca", (), 2, '-----\n "quote\n# no comment\n\n', "x")
    assert (directives[2].name, directives[2].line) == ("mute", 8)


def test_inline_block_loses_carriage_returns() -> None:
    assert lex("<ca>\r\na\r\n</ca>\r\n", "x")[0][0].inline == "a\n"


def test_inline_block_ends_at_its_own_tag() -> None:
    directives, _ = lex("<ca>\n<cert>\n</cert>\n</ca>\n", "x")
    assert directives[0].inline == "<cert>\n</cert>\n"


@pytest.mark.parametrize(
    ("text", "line", "name", "reason"),
    [
        ("verb 3\n<ca>\na\n", 2, "ca", "has no </ca>"),
        ("<ca>\na\0b\n</ca>\n", 1, "ca", "NUL"),
        ("<ca>\n" + "a" * INLINE_MAX + "\n</ca>\n", 1, "ca", "larger than"),
        ("verb 3\nca 'x\n", 2, None, "not closed"),
    ],
)
def test_problems_name_their_line(text: str, line: int, name: str | None, reason: str) -> None:
    _, problems = lex(text, "a.conf")
    assert [(p.source, p.line, p.directive) for p in problems] == [("a.conf", line, name)]
    assert reason in problems[0].reason


def test_words_beside_a_tag_make_it_a_directive() -> None:
    assert lex("<ca> x\n", "x")[0][0].name == "<ca>"


def test_a_bad_line_hides_no_other() -> None:
    directives, problems = lex("ca 'x\nverb 3\nca \"y\n", "x")
    assert [d.name for d in directives] == ["verb"]
    assert [p.line for p in problems] == [1, 3]


def test_decoding() -> None:
    assert decode("ü".encode(), "x") == ("ü", [])
    text, problems = decode(b"verb 3\n# caf\xe9\n", "x")
    assert (text, problems[0].line, problems[0].reason) == ("", 2, "is not UTF-8")
    assert decode(b"#" * (FILE_MAX + 1), "x")[1][0].reason.startswith("is larger")
    assert lex("#" * (FILE_MAX + 1), "x")[1][0].reason.startswith("is larger")


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("#a", '"#a"'),
        ("a#b", "a#b"),
        ("'a", '"\'a"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
    ],
)
def test_quoting(word: str, written: str) -> None:
    assert quote(word) == written
    assert split_words(f"x {written}") == ("x", word)


@pytest.mark.parametrize("word", ["a\nb", "a\0", "\t", "\x85"])
def test_what_no_line_can_hold_is_not_quoted(word: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        quote(word)


def test_repr_shows_no_content() -> None:
    shown = repr(Directive("auth-token", ("SECRET",), 1, "SECRET", "x"))
    assert "SECRET" not in shown
    assert "auth-token" in shown
