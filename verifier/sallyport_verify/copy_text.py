"""The text format of PostgreSQL's COPY: one row a line, fields between tabs, `\\N` for null."""

import re
from binascii import unhexlify

NULL = b"\\N"
BYTEA_PREFIX = b"\\\\x"
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def decode_text(field: bytes) -> str | None:
    """The text of a field. Raises ValueError when it is not UTF-8."""
    if field == NULL:
        return None
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: _ESCAPED.get(match.group(1), match.group(1)), field)
    return field.decode("utf-8")


def decode_bytea(field: bytes) -> bytes | None:
    """The bytes of a field in hex form. Raises ValueError for any other form."""
    if field == NULL:
        return None
    if not field.startswith(BYTEA_PREFIX):
        raise ValueError("a bytea that is not in hex form")
    return unhexlify(field[3:])
