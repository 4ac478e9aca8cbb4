"""RFC 8785, the JSON canonicalization scheme: reading JSON, and the one text that each value has."""

import json
import re
from collections.abc import Iterable

from .deep_json import parse_deep
from .number import format_number

Json = None | bool | int | float | str | list | dict

MOST_DIGITS = 400
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _parse_integer(digits: str) -> int | float:
    """As a double where no count and no column could hold it: time for an integer grows with the square of its digits."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_int=_parse_integer, parse_constant=_refuse_constant)


def parse_json(data: bytes) -> Json:
    """The value of JSON text in UTF-8. Raises ValueError for anything else.

    Of a name that comes twice the last value counts; `is_canonical` is how such text is told from a canonical one.
    """
    text = data.decode("utf-8")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        return parse_deep(text, _DECODER.decode)  # type: ignore[return-value]


def canonical_bytes(value: Json) -> bytes:
    """The canonical form of a value, as UTF-8. Raises ValueError for what has none: lone surrogates, infinities."""
    return "".join(_pieces(value)).encode("utf-8")


def is_canonical(data: bytes, value: Json) -> bool:
    """Whether `data`, which was read as `value`, is its canonical form."""
    try:
        return canonical_bytes(value) == data
    except (ValueError, RecursionError):
        return False


def _pieces(value: Json) -> Iterable[str]:
    if value is None:
        yield "null"
    elif value is True:
        yield "true"
    elif value is False:
        yield "false"
    elif isinstance(value, str):
        yield _quote(value)
    elif isinstance(value, (int, float)):
        yield format_number(value)
    elif isinstance(value, list):
        separator = "["
        for item in value:
            yield separator
            yield from _pieces(item)
            separator = ","
        yield "]" if value else "[]"
    else:
        separator = "{"
        for name in sorted(value, key=_utf16_units):
            yield f"{separator}{_quote(name)}:"
            yield from _pieces(value[name])
            separator = ","
        yield "}" if value else "{}"


def _utf16_units(name: str) -> bytes:
    """What names are sorted by: their UTF-16 code units, which big-endian bytes keep in order."""
    return name.encode("utf-16-be", "surrogatepass")


def _quote(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"
