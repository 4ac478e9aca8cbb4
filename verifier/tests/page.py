"""The vectors of docs/audit-format.md, read from the page itself, so that neither can change alone."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/audit-format.md").read_text(encoding="utf-8")

_EVENT = re.compile(
    r"^### `(?P<type>[a-z._]+)`\n"
    r"OCSF class (?P<class_uid>\d+), activity (?P<activity_id>\d+), severity (?P<severity>\d+); "
    r"(?P<action>[a-z]+), (?P<disposition>[a-z]+)(?:, or by `allow`)?\.\n"
    r"(?:(?!#|```).*\n)*```\n(?P<canonical>.+)\n```\nleaf `(?P<leaf>[0-9a-f]{64})`$",
    re.MULTILINE,
)
_SEAL = re.compile(
    r"^Vector \(private key: 32 bytes 0x01; public key `(?P<public_key>[0-9a-f]{64})`\).*\n```\n(?P<canonical>.+)\n```\n"
    r"digest `(?P<digest>[0-9a-f]{64})`, signature\n`(?P<signature>[0-9a-f]{128})`",
    re.MULTILINE,
)


@dataclass(frozen=True)
class EventVector:
    """One event type with what the page says of it."""

    type: str
    class_uid: str
    activity_id: str
    severity: str
    action: str
    disposition: str
    canonical: bytes
    leaf: bytes


def event_vectors() -> list[EventVector]:
    """All event vectors, in the order of the page."""
    return [
        EventVector(**match.groupdict() | {"canonical": match["canonical"].encode(), "leaf": bytes.fromhex(match["leaf"])})
        for match in _EVENT.finditer(PAGE)
    ]


def trust_vector() -> bytes:
    """The trust file."""
    match = re.search(r"^Vector \(root and signer have .*\n```\n(.+)\n```$", PAGE, re.MULTILINE)
    assert match is not None, "the page has no trust file"
    return match[1].encode()


def proof_vector() -> bytes:
    """The inclusion proof."""
    match = re.search(r"^Vector: event 2 of the seal above\.\n```\n(.+)\n```$", PAGE, re.MULTILINE)
    assert match is not None, "the page has no proof"
    return match[1].encode()


def seal_vector() -> re.Match[str]:
    """The seal with its key, digest and signature."""
    match = _SEAL.search(PAGE)
    assert match is not None, "the page has no seal vector"
    return match
