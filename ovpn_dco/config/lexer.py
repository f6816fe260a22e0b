"""From text to directives: lines, words, quotes, comments, inline blocks.

The grammar is that of OpenVPN's files, pushed options and management commands. OpenVPN takes 255
bytes in a line and 16 words; local files may have more here. What is pushed must fit into the
smaller limits, since the other end has them (`PUSHED_OPTION_MAX`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .problems import Problem, Refusal

__all__ = ["Directive", "decode", "lex", "quote", "split_words"]

FILE_MAX = 4 << 20
INLINE_MAX = 1 << 20
LINE_MAX = 4096
WORDS_MAX = 64
PUSHED_OPTION_MAX = 255
PUSHED_WORDS_MAX = 16

# What isspace() of the C locale takes for a space. Spaces of Unicode are letters like any other.
_SPACE = " \t\n\v\f\r"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[\w./:@%+,=!?*~^|&$(){}\[\]<>-][\w./:@%+,=!?*~^|&$(){}\[\]<>#;'-]*", re.ASCII)
_OPENING = re.compile(r"<([A-Za-z0-9][A-Za-z0-9-]*)>")


@dataclass(frozen=True)
class Directive:
    """One directive: its words, or the content of its inline block, and where it stands.

    Arguments and content may be secrets, so `repr` has neither."""

    name: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    line: int = 0
    inline: str | None = field(default=None, repr=False)
    source: str = "<text>"


def decode(data: bytes, source: str) -> tuple[str, list[Problem]]:
    """UTF-8, with or without a byte order mark, to text."""
    if len(data) > FILE_MAX:
        return "", [Problem(source, 0, None, f"is larger than {FILE_MAX} bytes")]
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", [Problem(source, line, None, "is not UTF-8")]


def lex(text: str, source: str, first_line: int = 1) -> tuple[list[Directive], list[Problem]]:
    """The directives of a text, and what is wrong with its lines."""
    if len(text) > FILE_MAX:
        return [], [Problem(source, 0, None, f"is larger than {FILE_MAX} characters")]
    lines = text.removeprefix("\ufeff").split("\n")
    directives: list[Directive] = []
    problems: list[Problem] = []
    index = 0
    while index < len(lines):
        number = first_line + index
        words = _words_of_line(lines[index], source, number, problems)
        index += 1
        if not words:
            continue
        opening = _OPENING.fullmatch(words[0]) if len(words) == 1 else None
        if opening is None:
            name = words[0][2:] if len(words[0]) > 2 and words[0][:2] == "--" else words[0]
            directives.append(Directive(name, tuple(words[1:]), number, None, source))
            continue
        end = _end_of_block(lines, index, opening[1])
        if end is None:
            problems.append(Problem(source, number, opening[1], f"has no </{opening[1]}>"))
            break
        content = "".join(line.removesuffix("\r") + "\n" for line in lines[index:end])
        reason = _refused_content(content)
        if reason:
            problems.append(Problem(source, number, opening[1], reason))
        else:
            directives.append(Directive(opening[1], (), number, content, source))
        index = end + 1
    return directives, problems


def _words_of_line(line: str, source: str, number: int, problems: list[Problem]) -> tuple[str, ...]:
    try:
        return split_words(line)
    except Refusal as error:
        problems.append(Problem(source, number, None, str(error)))
        return ()


def _end_of_block(lines: list[str], start: int, name: str) -> int | None:
    for index in range(start, len(lines)):
        if lines[index].lstrip(_SPACE).startswith(f"</{name}>"):
            return index
    return None


def _refused_content(content: str) -> str | None:
    if "\0" in content:
        return "has a NUL character inside"
    if len(content) > INLINE_MAX:
        return f"is larger than {INLINE_MAX} characters"
    return None


def split_words(line: str) -> tuple[str, ...]:
    """The words of a line, comments left out; raises `Refusal`.

    Quotes count at the start of a word only. Inside of single quotes everything stands for itself;
    elsewhere a backslash may stand before a backslash, a double quote or a space."""
    if len(line) > LINE_MAX:
        raise Refusal(f"line is longer than {LINE_MAX} characters")
    words: list[str] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _SPACE:
            at += 1
        if at == len(line) or line[at] in "#;":
            return tuple(words)
        if line[at] == "'":
            word, at = _single_quoted(line, at + 1)
        elif line[at] == '"':
            word, at = _escaped(line, at + 1, '"', "quote is not closed")
        else:
            word, at = _escaped(line, at, _SPACE, None)
        if found := _CONTROL.search(word):
            raise Refusal(f"control character U+{ord(found[0]):04X} in a word")
        words.append(word)
        if len(words) > WORDS_MAX:
            raise Refusal(f"line has more than {WORDS_MAX} words")


def _single_quoted(line: str, start: int) -> tuple[str, int]:
    end = line.find("'", start)
    if end < 0:
        raise Refusal("quote is not closed")
    return line[start:end], end + 1


def _escaped(line: str, at: int, ends: str, unfinished: str | None) -> tuple[str, int]:
    """A word up to one of `ends`, and where the next begins; `unfinished`: the line may not end."""
    word: list[str] = []
    while at < len(line):
        character = line[at]
        if character in ends:
            return "".join(word), at + 1
        if character == "\\":
            at += 1
            if at == len(line) or line[at] not in '\\"' + _SPACE:
                raise Refusal('backslash may stand before \\, " or a space only: write \\\\ or /')
            character = line[at]
        word.append(character)
        at += 1
    if unfinished:
        raise Refusal(unfinished)
    return "".join(word), at


def quote(word: str) -> str:
    """A word as `split_words` reads it; ValueError for what no line can hold."""
    if found := _CONTROL.search(word):
        raise ValueError(f"control character U+{ord(found[0]):04X} cannot be written")
    if _BARE.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
