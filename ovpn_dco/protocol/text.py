"""Text that peers send inside TLS: which characters it may have, and how it falls into words.

A control message reaches logs, hooks and the resolver of a host, so it is checked once, here, and
nothing behind this module sees a line break or another control character."""

from __future__ import annotations

import base64
import binascii
import errno
import re
import unicodedata

from ..errors import DcoError

__all__ = [
    "MAX_OPTION",
    "MAX_WORDS",
    "TextRefused",
    "check_text",
    "decode_base64",
    "decode_text",
    "encode_base64",
    "join_words",
    "number_of",
    "shown",
    "split_words",
    "without_controls",
]

MAX_OPTION = 255
"""Bytes of one option, and of one of its words, as OpenVPN's parser takes them."""

MAX_CREDENTIAL = 127
"""Bytes of a username or password, and so of a token or an answer that goes in the place of one.
What stock peers have room for; a server refuses the login of a client that sends more."""

MAX_WORDS = 16
"""Words of one option, its name included."""

# Controls, line and paragraph separators, halves of surrogate pairs. The separators count because
# str.splitlines and some log viewers break lines at them.
_FORBIDDEN = frozenset({"Cc", "Zl", "Zp", "Cs"})
_DECIMAL = re.compile(r"-?[0-9]{1,19}")


class TextRefused(DcoError, ValueError):
    """EBADMSG: text of a peer, or for one, that its grammar does not allow.

    `attribute` names the item at fault. The message never repeats unchecked text as it came."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(errno.EBADMSG, f"{what} {reason}", attribute=what)
        self.reason = reason


def shown(text: str | bytes, limit: int = 64) -> str:
    """At most `limit` characters of anything, escaped so that it is one printable line of ASCII."""
    if isinstance(text, bytes):
        text = text[: limit + 1].decode("ascii", "backslashreplace")
    escaped = text[: limit + 1].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."


def without_controls(text: str) -> str:
    """`text` with an underscore for each character that `check_text` refuses.

    For the username and password of a login, which servers take as they come: a line break there
    would put lines of the client's own into the log and the management interface."""
    if _is_plain(text):
        return text
    return "".join("_" if unicodedata.category(c) in _FORBIDDEN else c for c in text)


def check_text(text: str, what: str, *, max_bytes: int) -> str:
    """`text` itself if it is printable and at most `max_bytes` long in UTF-8, else TextRefused."""
    if _is_plain(text):
        size = len(text)
    else:
        for position, character in enumerate(text):
            if unicodedata.category(character) in _FORBIDDEN:
                raise TextRefused(what, f"has U+{ord(character):04X} at position {position}")
        size = len(text.encode())
    if size > max_bytes:
        raise TextRefused(what, f"is longer than {max_bytes} bytes")
    return text


def _is_plain(text: str) -> bool:
    """Printable ASCII, as nearly all text is: nothing in it is forbidden, and it is told fast."""
    return text.isascii() and text.isprintable()


def decode_text(data: bytes, what: str, *, max_bytes: int) -> str:
    """Bytes of a peer as checked text; TextRefused also for what is no UTF-8."""
    if len(data) > max_bytes:
        raise TextRefused(what, f"is longer than {max_bytes} bytes")
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError as error:
        raise TextRefused(what, f"is no UTF-8 at byte {error.start}") from None
    return check_text(text, what, max_bytes=max_bytes)


def number_of(text: str, what: str, *, low: int = 0, high: int = 0x7FFFFFFF) -> int:
    """A decimal number in `low`..`high`. ASCII digits only: int() would take much more."""
    if not _DECIMAL.fullmatch(text):
        raise TextRefused(what, "must be a decimal number")
    if not low <= int(text) <= high:
        raise TextRefused(what, f"must be {low} to {high}")
    return int(text)


def encode_base64(text: str) -> str:
    """Base64 of the UTF-8, on one line, padded. TextRefused for halves of surrogate pairs."""
    try:
        return base64.b64encode(text.encode()).decode("ascii")
    except UnicodeEncodeError:
        raise TextRefused("text", "has no UTF-8") from None


def decode_base64(text: str, what: str, *, max_bytes: int) -> str:
    """The checked text behind strict base64: one spelling per value, no line breaks or blanks."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise TextRefused(what, "is no base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise TextRefused(what, "is base64 in another than its canonical form")
    return decode_text(data, what, max_bytes=max_bytes)


# Words of an option: the rules of a configuration line.


def split_words(line: str) -> tuple[str, ...]:
    """The words of an option. Quotes count at the start of a word, `#` and `;` there start a
    comment. TextRefused for an open quote, a stray backslash, or more than 16 words."""
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at] in " \t":
            at += 1
        elif line[at] in "#;":
            break
        elif len(words) == MAX_WORDS:
            raise TextRefused("option", f"has more than {MAX_WORDS} words")
        elif line[at] == "'":
            word, at = _single_quoted(line, at + 1)
            words.append(word)
        else:
            word, at = _escaped(line, at)
            words.append(word)
    return tuple(words)


def _single_quoted(line: str, at: int) -> tuple[str, int]:
    end = line.find("'", at)
    if end < 0:
        raise TextRefused("option", "has an open quote")
    return line[at:end], end + 1


def _escaped(line: str, at: int) -> tuple[str, int]:
    """A word in double quotes or none; a backslash may precede itself, `"` or a blank only."""
    quoted = line[at] == '"'
    ends = '"' if quoted else " \t"
    at += quoted
    word: list[str] = []
    while at < len(line) and line[at] not in ends:
        if line[at] == "\\":
            at += 1
            if at == len(line) or line[at] not in '\\" \t':
                raise TextRefused("option", "has a stray backslash")
        word.append(line[at])
        at += 1
    if quoted and at == len(line):
        raise TextRefused("option", "has an open quote")
    return "".join(word), at + quoted


def join_words(words: tuple[str, ...]) -> str:
    """One option of these words, quoted where `split_words` needs it.

    TextRefused if it is too long, or has a comma, which separates options in a message."""
    if not words or len(words) > MAX_WORDS:
        raise TextRefused("option", f"needs 1 to {MAX_WORDS} words")
    line = " ".join(map(_quoted, words))
    if "," in line:
        raise TextRefused("option", "has a comma")
    return check_text(line, "option", max_bytes=MAX_OPTION)


def _quoted(word: str) -> str:
    if word and not re.search(r"[ \t\\]", word) and word[0] not in "\"'#;":
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
