"""What an operator signs to have partitions removed."""

import re
from dataclasses import dataclass
from hashlib import sha256

from .canonical import is_canonical, parse_json
from .moment import is_time, milliseconds
from .seal import LARGEST_COUNT

REQUEST_TAG = b"sallyport.audit.retention.v1\n"
MOST_DAYS = 100
MOST_BATCHES = 20_000
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNER = re.compile(r"s_[0-9a-f]{20}")
_DAY = re.compile(r"[0-9]{8}")
_MEMBERS = frozenset("v alg id time before previous days batches signer".split())
_BATCH_MEMBERS = frozenset("chain first last seal".split())


@dataclass(frozen=True, slots=True)
class BatchRange:
    """Batches `first` to `last` of a chain; `seal` is the digest of the seal of `last`."""

    chain: str
    first: int
    last: int
    seal: bytes


@dataclass(frozen=True, slots=True)
class RetentionRequest:
    """The signed members, named as in the format; `digest` is what the signature is over."""

    id: str
    time: str
    time_ms: int
    before: str
    before_ms: int
    previous: str | None
    days: list[str]
    batches: list[BatchRange]
    signer: str
    digest: bytes


def read_request(canonical: bytes) -> RetentionRequest | None:
    """The request that canonical bytes hold, or None when they are none of version 1 in its canonical form."""
    try:
        value = parse_json(canonical)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != _MEMBERS or not is_canonical(canonical, value):
        return None
    if type(value["v"]) is not int or value["v"] != 1 or value["alg"] != "Ed25519" or not _well_formed(value):
        return None
    time_ms, before_ms = milliseconds(value["time"]), milliseconds(value["before"])
    if time_ms is None or before_ms is None or before_ms > time_ms:
        return None
    batches = [
        BatchRange(item["chain"], item["first"], item["last"], bytes.fromhex(item["seal"])) for item in value["batches"]
    ]
    return RetentionRequest(
        value["id"], value["time"], time_ms, value["before"], before_ms, value["previous"], value["days"], batches,
        value["signer"], sha256(REQUEST_TAG + canonical).digest(),
    )  # fmt: skip


def _well_formed(value: dict) -> bool:
    days, batches = value["days"], value["batches"]
    return (
        _is(_UUID, value["id"])
        and is_time(value["time"])
        and is_time(value["before"])
        and (value["previous"] is None or _is(_DIGEST, value["previous"]))
        and isinstance(days, list)
        and 1 <= len(days) <= MOST_DAYS
        and all(_is(_DAY, day) for day in days)
        and isinstance(batches, list)
        and len(batches) <= MOST_BATCHES
        and all(_is_range(item) for item in batches)
        and _is(_SIGNER, value["signer"])
    )


def _is_range(item: object) -> bool:
    return (
        isinstance(item, dict)
        and item.keys() == _BATCH_MEMBERS
        and _is(_UUID, item["chain"])
        and all(type(item[name]) is int and 1 <= item[name] <= LARGEST_COUNT for name in ("first", "last"))
        and item["first"] <= item["last"]
        and _is(_DIGEST, item["seal"])
    )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
