"""Heads that writers keep outside the database: what a database administrator cannot cut away."""

import re
from dataclasses import dataclass

from .canonical import parse_json
from .failure import Failure

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """The last batch of a chain that the database had acknowledged when the writer kept this head."""

    file: str
    chain: str
    batch: int
    seal: bytes | None


def read_head(file: str, data: bytes) -> Head | None:
    """The acknowledged batch of a head file, None when nothing was acknowledged yet. Raises Failure."""
    try:
        document = parse_json(data)
    except ValueError as error:
        raise _invalid(file, f"it is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("v") != 1:
        raise _invalid(file, "it is no head of version 1")
    acknowledged = document.get("acknowledged")
    if acknowledged is None:
        return None
    if not isinstance(acknowledged, dict):
        raise _invalid(file, "acknowledged is not {chain, batch, seal}")
    chain, batch, seal = (acknowledged.get(name) for name in ("chain", "batch", "seal"))
    if not isinstance(chain, str) or type(batch) is not int or batch < 0 or not _is_digest_or_none(seal):
        raise _invalid(file, "acknowledged is not {chain, batch, seal}")
    return None if batch == 0 else Head(file, chain, batch, None if seal is None else bytes.fromhex(seal))


def _is_digest_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and _DIGEST.fullmatch(value) is not None)


def _invalid(file: str, why: str) -> Failure:
    return Failure("ERR_AUDIT_HEAD_INVALID", f"{file} is no head file: {why}")
