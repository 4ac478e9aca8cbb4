"""Requests for retention: what operators had removed, and whether it may be missing."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from typing import BinaryIO

from .canonical import parse_json
from .copy_text import decode_bytea, decode_text
from .findings import Findings
from .kinds import instant
from .retention_request import RetentionRequest, read_request
from .rows import broken, limited_lines
from .seal_index import SealIndex
from .trust import Signer, Trust, signature_holds

RETAINED = "audit.retained"
MARK = f'"type":"{RETAINED}"'.encode()
"""In the canonical form, which is the only one that a writer seals."""
LATE_MS = 5 * 60_000
"""A request may be signed so much later, by the operator's clock, than the seal of its record, by the writer's."""


@dataclass(slots=True)
class Retained:
    """A valid request, and what is missing by it."""

    request: RetentionRequest
    operator: str
    hash: str
    recorded: bool = False
    holds: bool = False
    batches: int = 0
    events: int = 0


@dataclass
class Retention:
    """All valid requests. `keep_ms` is None where nobody said how long things are kept."""

    keep_ms: int | None
    requests: list[Retained] = field(default_factory=list)
    _named: dict[str, list[tuple[int, int, bytes, Retained]]] = field(default_factory=dict)

    def names(self, chain: str, batch: int, time: str) -> bool:
        """Whether any valid request names the batch, sealed at that time."""
        return any(True for _ in self._naming(chain, batch, time))

    def wanted_hashes(self) -> frozenset[str]:
        """What a record of retention must name to matter."""
        return frozenset(retained.hash for retained in self.requests)

    def judge(self, recorded: dict[str, int], index: SealIndex, findings: Findings) -> None:
        """Says which requests hold. `recorded` is the latest time of a seal over a record of each, by hash."""
        self._mark_recorded(recorded)
        for retained in self.requests:
            request = retained.request
            if not retained.recorded:
                findings.add("retention_unrecorded", f"no sealed event speaks for request {request.id}")
            elif self.keep_ms is not None and request.time_ms - request.before_ms < self.keep_ms:
                message = f"request {request.id} of {retained.operator} was for what was younger than --keep"
                findings.add("retention_too_young", message)
            else:
                retained.holds = True
                if self.keep_ms is None:
                    message = f"request {request.id} of {retained.operator} had what was before {request.before} removed (--keep)"
                    findings.add("retention_unaccepted", message)
                self._check_ends(request, index, findings)

    def excuse(self, chain: str, batch: int, time: str, events: int, index: SealIndex) -> bool:
        """Whether a batch of which only the seal is there may be so; counts it for the request that says it."""
        for range_end, seal, retained in self._naming(chain, batch, time):
            if retained.holds and index.digest_of(chain, range_end) == seal:
                retained.batches += 1
                retained.events += events
                return True
        return False

    def report(self) -> list[dict]:
        """The requests that hold."""
        return [
            {
                "retention_id": retained.request.id,
                "operator": retained.operator,
                "signer": retained.request.signer,
                "time": retained.request.time,
                "before": retained.request.before,
                "batches": retained.batches,
                "events": retained.events,
            }
            for retained in self.requests
            if retained.holds
        ]

    def latest_before_ms(self) -> int | None:
        """Until when something may have been removed."""
        return max((retained.request.before_ms for retained in self.requests if retained.holds), default=None)

    def add(self, retained: Retained) -> None:
        """One more valid request."""
        self.requests.append(retained)
        for part in retained.request.batches:
            self._named.setdefault(part.chain, []).append((part.first, part.last, part.seal, retained))

    def seal_ranges(self) -> None:
        """To be called when all are added: from then on they are looked up."""
        for chain, ranges in self._named.items():
            ranges.sort(key=itemgetter(0))

    def _naming(self, chain: str, batch: int, time: str) -> Iterator[tuple[int, bytes, Retained]]:
        ranges = self._named.get(chain, ())
        for first, last, seal, retained in ranges[: bisect_right(ranges, batch, key=itemgetter(0))]:
            if first <= batch <= last and time < retained.request.before:
                yield last, seal, retained

    def _mark_recorded(self, recorded: dict[str, int]) -> None:
        by_hash = {retained.hash: retained for retained in self.requests}
        waiting = []
        for retained in self.requests:
            sealed_ms = recorded.get(retained.hash)
            retained.recorded = sealed_ms is not None and retained.request.time_ms <= sealed_ms + LATE_MS
            if retained.recorded:
                waiting.append(retained)
        while waiting:
            later = waiting.pop()
            before = by_hash.get(later.request.previous or "")
            if before is not None and not before.recorded and before.request.time_ms <= later.request.time_ms:
                before.recorded = True
                waiting.append(before)

    def _check_ends(self, request: RetentionRequest, index: SealIndex, findings: Findings) -> None:
        for part in request.batches:
            digest = index.digest_of(part.chain, part.last)
            if digest is None:
                message = f"request {request.id} names a batch that is not there"
                findings.add("head_missing", message, part.chain, part.last)
            elif digest != part.seal:
                message = f"request {request.id} names another seal for this batch"
                findings.add("head_differs", message, part.chain, part.last)


def read_retention(lines: BinaryIO, trust: Trust | None, keep_ms: int | None, findings: Findings) -> Retention:
    """Reads audit.retention; of its rows, valid requests are kept and what is wrong with the others is found."""
    retention = Retention(keep_ms)
    seen = set()
    for number, line in enumerate(limited_lines("retention", lines), 1):
        try:
            retention_id, before, partitions, signer, signature, canonical = line.split(b"\t")
            columns = tuple(decode_text(column) for column in (retention_id, before, partitions, signer))
            bytes_of = (decode_bytea(signature) or b"", decode_bytea(canonical) or b"")
        except ValueError as error:
            raise broken("retention", number, str(error)) from error
        retained = _check_row(columns, *bytes_of, trust, findings)
        if retained is not None and retained.hash not in seen:
            seen.add(retained.hash)
            retention.add(retained)
    retention.seal_ranges()
    return retention


def _check_row(
    columns: tuple[str | None, ...], signature: bytes, canonical: bytes, trust: Trust | None, findings: Findings
) -> Retained | None:
    row = f"the row {columns[0]} of audit.retention"
    request = read_request(canonical)
    if request is None:
        findings.add("retention_invalid", f"{row} is no request")
        return None
    if not _same_columns(columns, request):
        findings.add("retention_invalid", f"{row} differs from the request in it")
    if trust is None:
        return None
    operator = trust.operators.get(request.signer)
    why = _why_not_believed(request, operator, signature)
    if why is not None or operator is None:
        findings.add("retention_invalid", f"{row} is of no operator: {why}")
        return None
    return Retained(request, operator.name, sha256(canonical).hexdigest())


def _why_not_believed(request: RetentionRequest, operator: Signer | None, signature: bytes) -> str | None:
    if operator is None:
        return f"the trust file knows no operator {request.signer}"
    if not signature_holds(operator.public_key, signature, request.digest):
        return f"the signature is not one of {request.signer}"
    if operator.revoked_before(request.time):
        return f"operator {request.signer} was revoked at {operator.revoked_at}"
    return None


def _same_columns(columns: tuple[str | None, ...], request: RetentionRequest) -> bool:
    retention_id, before, partitions, signer = columns
    wanted = [name for day in request.days for name in (f"event_{day}", f"seal_leaves_{day}")]
    try:
        named = parse_json((partitions or "null").encode())
    except ValueError:
        named = None
    return (retention_id, before, named, signer) == (request.id, instant(request.before), wanted, request.signer)


def hash_of_record(canonical: bytes) -> str | None:
    """The hash of a request that an event records, or None when it is no record of retention."""
    try:
        event = parse_json(canonical)
    except ValueError:
        return None
    data = event.get("data") if isinstance(event, dict) and event.get("type") == RETAINED else None
    named = data.get("request_sha256") if isinstance(data, dict) else None
    return named if isinstance(named, str) else None
