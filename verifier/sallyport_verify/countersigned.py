"""Heads of other chains that heartbeats hold: what one writer signed of another."""

import re
from collections.abc import Iterator

from .canonical import parse_json
from .findings import Findings
from .seal import LARGEST_COUNT
from .seal_index import SealIndex

HEARTBEAT = "audit.heartbeat"
MARK = f'"type":"{HEARTBEAT}"'.encode()
"""In the canonical form, which is the only one that a writer seals."""
_CHAIN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def heads_of(canonical: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Chain, batch and digest of each head that an event holds, when it is a heartbeat."""
    try:
        event = parse_json(canonical)
    except ValueError:
        return
    data = event.get("data") if isinstance(event, dict) and event.get("type") == HEARTBEAT else None
    heads = data.get("heads") if isinstance(data, dict) else None
    for head in heads if isinstance(heads, list) else ():
        if _is_head(head):
            yield head["chain"], head["batch"], bytes.fromhex(head["seal"])


def check_countersigned(index: SealIndex, findings: Findings) -> None:
    """Compares them with what is there; of batches that are missing, the last one of each chain is named."""
    for chain, batch, by in index.differing_heads():
        findings.add("countersigned_head_differs", f"{by} saw another seal of this batch", chain, batch)
    for chain, batch, by in index.missing_heads():
        findings.add("countersigned_head_missing", f"{by} saw this batch, which is not there", chain, batch)


def _is_head(head: object) -> bool:
    if not isinstance(head, dict):
        return False
    chain, batch, seal = (head.get(name) for name in ("chain", "batch", "seal"))
    return (
        isinstance(chain, str)
        and _CHAIN.fullmatch(chain) is not None
        and type(batch) is int
        and 1 <= batch <= LARGEST_COUNT
        and isinstance(seal, str)
        and _DIGEST.fullmatch(seal) is not None
    )
