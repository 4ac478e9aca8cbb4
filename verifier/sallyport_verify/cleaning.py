"""What an emitter makes of `data` before it is hashed (audit-format.md, "Cleaning"), to compare a change with its event."""

import re

from .canonical import Json

LONGEST_TEXT = 8192
LONGEST_INPUT = 131_072
LONGEST_NAME = 256
MOST_ITEMS = 1024
DEEPEST = 12
_SECRET_NAMES = frozenset(
    "authorization code_secret connection_string key key_text password primary_key private_key secondary_key secret "
    "shared_access_key sig token".split()
)
_SECRET_TEXT = re.compile(r'(SharedAccessKey=|sig=)[^;&\s"]+', re.IGNORECASE)
_LONE_SURROGATE = re.compile("[\ud800-\udfff\x00]")


def clean(value: Json, name: str = "", depth: int = 0) -> Json:
    """The value as it stands in an event."""
    if isinstance(value, str):
        return _clean_text(value, name)
    if not isinstance(value, (list, dict)):
        return value
    if depth >= DEEPEST:
        return "[too deep]"
    if isinstance(value, list):
        return [clean(item, "", depth + 1) for item in value[:MOST_ITEMS]]
    members = list(value.items())[:MOST_ITEMS]
    return {
        _bounded(member, LONGEST_NAME): clean(item, member, depth + 1)
        for member, item in members
        if not (isinstance(item, str) and member in _SECRET_NAMES)
    }


def _clean_text(text: str, name: str) -> str:
    if name == "input":
        return _bounded(text, LONGEST_INPUT)
    cleaned = _bounded(text, LONGEST_TEXT)
    return _SECRET_TEXT.sub(r"\1[redacted]", cleaned) if "SharedAccess" in cleaned else cleaned


def _bounded(text: str, units: int) -> str:
    if len(text) * 2 > units:
        cut = text.encode("utf-16-le", "surrogatepass")[: units * 2]
        text = cut.decode("utf-16-le", "surrogatepass")
    return _LONE_SURROGATE.sub("\ufffd", text)
