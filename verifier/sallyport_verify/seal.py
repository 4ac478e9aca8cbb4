"""The seal over one batch: its members, its digest."""

import re
from dataclasses import dataclass
from hashlib import sha256

from .canonical import is_canonical, parse_json
from .moment import is_time

SEAL_TAG = b"sallyport.audit.seal.v1\n"
LARGEST_COUNT = 2**53 - 1
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNER = re.compile(r"s_[0-9a-f]{20}")
_MEMBERS = frozenset(
    "v alg chain epoch batch first last n dropped root prev prev_chain signer time final".split()
)


@dataclass(frozen=True, slots=True)
class Seal:
    """The signed members, named as in the format; digests are hex, `digest` is that of this seal in bytes."""

    chain: str
    epoch: int
    batch: int
    first: int
    last: int
    n: int
    dropped: int
    root: str
    prev: str | None
    prev_chain: str | None
    signer: str
    time: str
    final: bool
    digest: bytes


def seal_digest(canonical: bytes) -> bytes:
    """What a signer signs of the canonical bytes of a seal, and what the next seal names."""
    return sha256(SEAL_TAG + canonical).digest()


def read_seal(canonical: bytes) -> Seal | None:
    """The seal that canonical bytes hold, or None when they are no seal of version 1 in its canonical form."""
    try:
        value = parse_json(canonical)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != _MEMBERS or not is_canonical(canonical, value):
        return None
    if value["v"] != 1 or value["v"] is True or value["alg"] != "Ed25519" or not _well_formed(value):
        return None
    members = {name: member for name, member in value.items() if name not in ("v", "alg")}
    return Seal(**members, digest=seal_digest(canonical))


def _well_formed(value: dict) -> bool:
    return (
        _is(_UUID, value["chain"])
        and all(_is_count(value[name]) for name in ("epoch", "batch", "first", "last", "n", "dropped"))
        and value["batch"] >= 1
        and value["first"] >= 1
        and _is(_DIGEST, value["root"])
        and (value["prev"] is None or _is(_DIGEST, value["prev"]))
        and (value["prev_chain"] is None or _is(_UUID, value["prev_chain"]))
        and _is(_SIGNER, value["signer"])
        and is_time(value["time"])
        and isinstance(value["final"], bool)
    )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
