"""A checkpoint: what a writer saw of all chains at one moment, signed, and kept where the database cannot reach it."""

import re
from dataclasses import dataclass
from hashlib import sha256

from .canonical import canonical_bytes, is_canonical, parse_json
from .moment import is_time, milliseconds
from .seal import LARGEST_COUNT

CHECKPOINT_TAG = b"sallyport.audit.checkpoint.v1\n"
LONGEST_LINE_BYTES = 1024 * 1024
MOST_HEADS = 1001
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_SIGNER = re.compile(r"s_[0-9a-f]{20}")
_MEMBERS = frozenset("v alg id series number prev stored time own heads omitted signer".split())
_HEAD_MEMBERS = frozenset("chain batch seal".split())


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The signed members that are compared, named as in the format; `canonical` is the RFC 8785 form of all."""

    id: str
    series: str
    number: int
    prev: str | None
    stored: str | None
    time: str
    own: dict | None
    heads: list[dict]
    signer: str
    canonical: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """What a signer signs, and what the next checkpoint of the series names."""
        return sha256(CHECKPOINT_TAG + self.canonical).digest()


def read_line(line: bytes) -> Checkpoint | None:
    """The checkpoint of a line without its end, or None when it is none."""
    if len(line) > LONGEST_LINE_BYTES:
        return None
    try:
        value = parse_json(line)
        if not isinstance(value, dict) or value.keys() != {"checkpoint", "signature"}:
            return None
        if not _is(_SIGNATURE, value["signature"]):
            return None
        return _made_of(value["checkpoint"], canonical_bytes(value["checkpoint"]), bytes.fromhex(value["signature"]))
    except (ValueError, RecursionError):
        return None


def read_row(canonical: bytes, signature: bytes) -> Checkpoint | None:
    """The checkpoint of a row, or None when its bytes are none in its canonical form."""
    try:
        value = parse_json(canonical)
    except ValueError:
        return None
    return _made_of(value, canonical, signature) if is_canonical(canonical, value) else None


def _made_of(value: object, canonical: bytes, signature: bytes) -> Checkpoint | None:
    if not isinstance(value, dict) or value.keys() != _MEMBERS or not _well_formed(value):
        return None
    return Checkpoint(
        value["id"], value["series"], int(value["number"]), value["prev"], value["stored"], value["time"], value["own"],
        value["heads"], value["signer"], canonical, signature,
    )  # fmt: skip


def _well_formed(value: dict) -> bool:
    return (
        _is_count(value["v"], 1)
        and value["v"] == 1
        and value["alg"] == "Ed25519"
        and _is(_UUID, value["id"])
        and _is(_UUID, value["series"])
        and _is_count(value["number"], 1)
        and (_is(_DIGEST, value["prev"]) if value["number"] != 1 else value["prev"] is None)
        and (value["stored"] is None or _is(_UUID, value["stored"]))
        and is_time(value["time"])
        and milliseconds(value["time"]) is not None
        and (value["own"] is None or _is_head(value["own"]))
        and _are_heads(value["heads"])
        and (value["omitted"] is None or _is_count(value["omitted"], 0))
        and _is(_SIGNER, value["signer"])
    )


def _are_heads(heads: object) -> bool:
    if not isinstance(heads, list) or len(heads) > MOST_HEADS or not all(_is_head(head) for head in heads):
        return False
    return all(before["chain"] < after["chain"] for before, after in zip(heads, heads[1:]))


def _is_head(head: object) -> bool:
    return (
        isinstance(head, dict)
        and head.keys() == _HEAD_MEMBERS
        and _is(_UUID, head["chain"])
        and _is_count(head["batch"], 1)
        and _is(_DIGEST, head["seal"])
    )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object, least: int) -> bool:
    return type(value) in (int, float) and least <= value <= LARGEST_COUNT and value == int(value)
