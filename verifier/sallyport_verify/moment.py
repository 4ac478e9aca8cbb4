"""Times as evidence has them, and durations as a command line has them."""

import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def is_time(value: object) -> bool:
    """Whether a value has the form of RFC 3339 in UTC with milliseconds, whether or not the calendar has that day."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def milliseconds(time: str) -> int | None:
    """A time as milliseconds since 1970, or None for one that is not in the calendar."""
    try:
        return (datetime.fromisoformat(time) - _EPOCH) // _MILLISECOND
    except ValueError:
        return None


def duration_ms(text: str) -> int | None:
    """What `400d`, `24h` or `1s` means, or None for what is no duration."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _UNIT_MS[match[2]]
