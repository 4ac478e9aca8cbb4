"""JSON that is nested deeper than the interpreter can follow: read without recursion, what is far down as one mark."""

import re
from collections.abc import Callable, Iterator

KEPT_LEVELS = 100
TOO_DEEP = "[too deep to be read]"
"""Stands for lists and objects below: nothing that is compared is there, and no canonical form has it."""
_TOKEN = re.compile(
    r'[ \t\n\r]*(?:(?P<text>"(?:[^"\\\x00-\x1f]|\\.)*+")|(?P<mark>[\[\]{}:,])|(?P<plain>-?[0-9.eE+-]+|true|false|null))',
    re.DOTALL,
)
_SPACE = " \t\n\r"


def parse_deep(text: str, parse_plain: Callable[[str], object]) -> object:
    """The value of JSON text. `parse_plain` reads text, numbers and words. Raises ValueError for what is no JSON."""
    parser = _Parser(parse_plain)
    for token, is_mark in _tokens(text):
        parser.take(token, is_mark)
    return parser.value()


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        at = match.end()
        yield match[match.lastgroup or 0], match.lastgroup == "mark"
    if text[at:].strip(_SPACE):
        raise ValueError("no JSON")


class _Parser:
    """`open` has the kind of each list and object that is not closed; `made` those of them that are kept."""

    def __init__(self, parse_plain: Callable[[str], object]) -> None:
        self._parse_plain = parse_plain
        self._open: list[str] = []
        self._made: list[tuple[list | dict, str | None]] = []
        self._wants = "value"
        self._name: str | None = None
        self._result: object = None

    def take(self, token: str, is_mark: bool) -> None:
        """One token, which must be one that may stand here."""
        wants = self._wants
        if not is_mark or token in "[{":
            if wants in ("name", "first name"):
                self._take_name(token, is_mark)
            elif wants not in ("value", "first value"):
                raise ValueError("no JSON")
            elif is_mark:
                self._begin(token)
            else:
                self._put(self._parse_plain(token))
        elif token == ":" and wants == ":":
            self._wants = "value"
        elif token == "," and wants == "next" and self._open:
            self._wants = "name" if self._open[-1] == "{" else "value"
        elif token == "]" and wants in ("first value", "next") and self._open and self._open[-1] == "[":
            self._end()
        elif token == "}" and wants in ("first name", "next") and self._open and self._open[-1] == "{":
            self._end()
        else:
            raise ValueError("no JSON")

    def value(self) -> object:
        """What was read, when nothing is left open."""
        if self._open or self._wants != "next":
            raise ValueError("no JSON")
        return self._result

    def _take_name(self, token: str, is_mark: bool) -> None:
        name = None if is_mark else self._parse_plain(token)
        if not isinstance(name, str):
            raise ValueError("no JSON")
        if len(self._open) <= KEPT_LEVELS:
            self._name = name
        self._wants = ":"

    def _begin(self, token: str) -> None:
        if len(self._open) < KEPT_LEVELS:
            self._made.append(([] if token == "[" else {}, self._name))
        elif len(self._open) == KEPT_LEVELS:
            self._store(TOO_DEEP)
        self._open.append(token)
        self._wants = "first name" if token == "{" else "first value"

    def _end(self) -> None:
        self._open.pop()
        if len(self._open) < KEPT_LEVELS:
            made, self._name = self._made.pop()
            self._store(made)
        self._wants = "next"

    def _put(self, value: object) -> None:
        if len(self._open) <= KEPT_LEVELS:
            self._store(value)
        self._wants = "next"

    def _store(self, value: object) -> None:
        if not self._made:
            self._result = value
            return
        within = self._made[-1][0]
        if isinstance(within, list):
            within.append(value)
        else:
            within[self._name or ""] = value
