"""One chain, batch after batch: seals, signatures, order; then what stands in no batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .batch import Batch, BatchCheck, Columns
from .findings import Findings
from .kinds import instant
from .moment import milliseconds
from .retention import Retention
from .rows import EventRow, LeavesRow, RowReader, SealRow
from .seal import Seal, read_seal, seal_digest
from .seal_index import SealIndex
from .sealed_events import SealedEvents
from .trust import Trust, signature_holds


@dataclass(slots=True)
class ChainTotals:
    """What is known of a chain when all of its batches were read.

    `last` is None when the last batch has no sound seal; `whole` says that no batch is missing and every seal is sound.
    """

    chain: str
    seals: int = 0
    events: int = 0
    sealed_events: int = 0
    dropped: int = 0
    last_batch: int = 0
    first: Seal | None = None
    last: Seal | None = None
    last_digest: bytes | None = None
    whole: bool = True


@dataclass(slots=True)
class Judgement:
    """By what a chain is judged. `trust` is None without a trust file, `site` that of an imported chain.

    `foreign` says that `trust` is another site's.
    """

    trust: Trust | None
    site: str | None
    foreign: bool
    columns: bool
    retention: Retention


class ChainCheck:
    """Verifies one chain; what others need of it goes to `index` and `events`."""

    def __init__(
        self,
        chain: str,
        judgement: Judgement,
        findings: Findings,
        index: SealIndex,
        events: SealedEvents,
        batch_checked: Callable[[int], None],
    ) -> None:
        self.totals = ChainTotals(chain)
        self._judgement = judgement
        self._columns = Columns(judgement.site) if judgement.columns else None
        self._findings = findings
        self._index = index
        self._sealed_events = events
        self._batch_checked = batch_checked
        self._known = True
        self._covered = 0
        self._unknown_signers: set[str] = set()
        self._strays: list[int] = []

    def run(self, seals: RowReader, leaves: RowReader, events: RowReader) -> ChainTotals:
        """Reads all rows of the chain, in their order."""
        chain = self.totals.chain
        for row in seals.rows_of(chain):
            self.totals.seals += 1
            own, count = _leaves_of(leaves, row)
            seal, believed = self._check_seal(row)
            if seal is not None:
                self._check_events(_batch(row, seal, own, count), seal, believed, events)
        for _ in leaves.rows_of(chain):
            pass
        self._stray(events.rows_of(chain))
        if self._strays:
            message = f"{self._strays[1]} events that no seal covers"
            self._findings.add("event_unsealed", message, chain, None, self._strays[0])
        return self.totals

    def _check_seal(self, row: SealRow) -> tuple[Seal | None, bool]:
        """The seal of the row, or None when it is not sound: then it covers no events, and nothing continues it.

        Also whether it is validly signed by a signer that is to be believed.
        """
        totals = self.totals
        if row.number > totals.last_batch + 1:
            missing = totals.last_batch + 1
            self._findings.add("seal_missing", f"batch {missing} is not there", row.chain, missing)
            self._known = totals.whole = False
        seal, believed = self._read(row), False
        if seal is not None:
            believed = self._check_members(row, seal)
            if not self._is_range(row, seal):
                seal = None
        totals.last_batch = max(totals.last_batch, row.number)
        totals.last = seal
        totals.last_digest = seal_digest(row.canonical)
        self._index.add_seal(row.chain, row.number, totals.last_digest)
        self._known = seal is not None
        totals.whole = totals.whole and self._known
        return seal, believed

    def _read(self, row: SealRow) -> Seal | None:
        seal = read_seal(row.canonical)
        if seal is None:
            self._findings.add("seal_altered", "the canonical bytes are no seal", row.chain, row.number)
        elif (seal.chain, seal.batch) != (row.chain, row.number):
            message = f"the seal is that of batch {seal.batch} of chain {seal.chain}"
            self._findings.add("seal_altered", message, row.chain, row.number)
            return None
        return seal

    def _check_members(self, row: SealRow, seal: Seal) -> bool:
        differing = ", ".join(differing_seal_columns(row, seal))
        if differing:
            message = f"columns of the seal differ from what was signed: {differing}"
            self._findings.add("seal_altered", message, row.chain, row.number)
        believed = self._check_signature(row, seal)
        self._check_order(row, seal)
        self.totals.dropped += seal.dropped
        self.totals.sealed_events += seal.n
        if seal.batch == 1:
            self.totals.first = seal
        return believed

    def _is_range(self, row: SealRow, seal: Seal) -> bool:
        if seal.n != seal.last - seal.first + 1 or (seal.n == 0 and not seal.final):
            self._findings.add("seal_altered", f"{seal.n} events do not fill the range", row.chain, row.number)
            return False
        return seal.first > self._covered

    def _check_signature(self, row: SealRow, seal: Seal) -> bool:
        trust = self._judgement.trust
        if trust is None:
            return False
        place = (row.chain, row.number)
        signer = trust.signers.get(seal.signer)
        if signer is None:
            if seal.signer not in self._unknown_signers:
                self._unknown_signers.add(seal.signer)
                message = f"the trust file does not know signer {seal.signer}"
                self._findings.add("signer_unknown", message, *place)
        elif not signature_holds(signer.public_key, row.signature, seal.digest):
            self._findings.add("signature_invalid", f"the signature is not one of {seal.signer}", *place)
        elif signer.revoked_before(seal.time):
            message = f"signer {seal.signer} was revoked at {signer.revoked_at}"
            self._findings.add("signer_revoked", message, *place)
        else:
            return True
        return False

    def _check_order(self, row: SealRow, seal: Seal) -> None:
        place, before = (row.chain, row.number), self.totals.last
        if seal.first <= self._covered or (self._known and seal.first != self._covered + 1):
            message = f"the batch begins at {seal.first}, not {self._covered + 1}"
            self._findings.add("seal_order", message, *place)
        if not self._known:
            return
        if before is None:
            continues = (seal.prev is None) == (seal.prev_chain is None)
        else:
            continues = seal.prev == before.digest.hex() and seal.prev_chain is None and not before.final
        if not continues:
            self._findings.add("seal_order", "the seal does not continue the one before it", *place)

    def _check_events(self, batch: Batch, seal: Seal, believed: bool, events: RowReader) -> None:
        chain = batch.chain
        self._stray(events.rows_of(chain, seal.first - 1))
        self._covered = seal.last
        if self._may_be_absent(batch, seal, events):
            kept = (chain, batch.number, seal.first, seal.last, seal.root, seal.time, batch.first_at, batch.last_at)
            self._index.add_absent(kept)
            return
        records_ms = milliseconds(seal.time) if believed and not self._judgement.foreign else None
        self._sealed_events.begin_batch(records_ms, self._judgement.foreign)
        check = BatchCheck(batch, self._columns, self._findings)
        check.run(events.rows_of(chain, seal.last), self._sealed_events.take)
        self.totals.events += check.events
        self._batch_checked(check.events)

    def _may_be_absent(self, batch: Batch, seal: Seal, events: RowReader) -> bool:
        if batch.leaf_rows > 0 or not self._judgement.retention.names(batch.chain, batch.number, seal.time):
            return False
        return not events.has_rows(batch.chain, seal.last)

    def _stray(self, events: Iterator[EventRow]) -> None:
        for event in events:
            if not self._strays:
                self._strays = [event.number, 0]
            self._strays[1] += 1


def _leaves_of(leaves: RowReader, row: SealRow) -> tuple[bytes | None, int]:
    """The leaves of the batch, when there is one row of them, and how many rows there are."""
    count, first = 0, None
    found: LeavesRow
    for found in leaves.rows_of(row.chain, row.number):
        if found.number == row.number:
            count += 1
            first = found.leaves if count == 1 else None
    return first, count


def _batch(row: SealRow, seal: Seal, leaves: bytes | None, leaf_rows: int) -> Batch:
    return Batch(
        row.chain, row.number, seal.first, seal.last, seal.root, row.recorded_at, row.first_at, row.last_at, leaves, leaf_rows
    )


def check_absent(row: tuple, retention: Retention, columns: bool, index: SealIndex, findings: Findings) -> None:
    """Of a batch of which only the seal is there: a finding for all that is missing, unless a request says that it may be."""
    chain, number, first, last, root, time, first_at, last_at = row
    batch = Batch(chain, number, first, last, root, b"", first_at, last_at, None, 0)
    if not retention.excuse(chain, number, time, batch.count, index):
        BatchCheck(batch, Columns(None) if columns else None, findings).run((), lambda _event, _sealed: None)


def differing_seal_columns(row: SealRow, seal: Seal) -> list[str]:
    """Names of columns that are not what was signed."""
    expected = {
        "first_seq": str(seal.first),
        "last_seq": str(seal.last),
        "event_count": str(seal.n),
        "dropped": str(seal.dropped),
        "root": f"\\x{seal.root}",
        "seal": f"\\x{seal.digest.hex()}",
        "prev_seal": None if seal.prev is None else f"\\x{seal.prev}",
        "prev_chain": seal.prev_chain,
        "signer": seal.signer,
        "sealed_at": instant(seal.time),
        "epoch": str(seal.epoch),
        "final": "t" if seal.final else "f",
    }
    return [name for (name, wanted), column in zip(expected.items(), row.columns, strict=True) if column != wanted]
