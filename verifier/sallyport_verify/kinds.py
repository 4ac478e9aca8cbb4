"""How a value of each kind is written in a column. Each returns the text that COPY has, or None for what does not fit."""

import re
from functools import lru_cache
from ipaddress import ip_address

from .canonical import parse_json

REMEMBERED_ADDRESSES = 65_536
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{3}))?(Z?)")


def text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def boolean(value: object) -> str | None:
    return ("t" if value else "f") if isinstance(value, bool) else None


def integer_up_to(largest: int):
    def integer(value: object) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest
        return str(value) if fits else None

    return integer


int32 = integer_up_to(2**31 - 1)
port = integer_up_to(65_535)
bigint = integer_up_to(2**53 - 1)


def uuid(value: object) -> str | None:
    return value if isinstance(value, str) and _UUID.fullmatch(value) else None


def address(value: object) -> str | None:
    """Unlike other kinds in any spelling: `same_address` compares."""
    return value if isinstance(value, str) and _is_address(value) else None


@lru_cache(maxsize=REMEMBERED_ADDRESSES)
def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def number(value: object) -> str | None:
    """In any spelling: `same_number` compares."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return str(value)


def instant(value: object) -> str | None:
    """A time in UTC, as timestamptz."""
    return _moment(value, "Z")


def time_of_day(value: object) -> str | None:
    """A time at a place, as timestamp without a zone."""
    return _moment(value, "")


def _moment(value: object, zone: str) -> str | None:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[4] != zone:
        return None
    fraction = (match[3] or "").rstrip("0")
    return f"{match[1]} {match[2]}{f'.{fraction}' if fraction else ''}{'+00' if zone else ''}"


def same_address(column: str, expected: str) -> bool:
    if column == expected:
        return True
    try:
        return ip_address(column) == ip_address(expected)
    except ValueError:
        return False


def same_number(column: str, expected: str) -> bool:
    try:
        return float(column) == float(expected)
    except ValueError:
        return False


def same_list(column: str, expected: str) -> bool:
    return parse_json(column.encode()) == parse_json(expected.encode())
