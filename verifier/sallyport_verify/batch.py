"""One batch: its leaves and events against the root that was signed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from .columns import COLUMNS, differing_columns
from .copy_text import decode_text
from .findings import Bounded, Findings
from .merkle import LEAF_BYTES, MerkleTree, leaf_hash, root_of_leaves
from .rows import EventRow

OCCURRED_AT_FIELD = COLUMNS.index("occurred_at")


@dataclass(slots=True)
class Batch:
    """A sound seal's range and root, and what is stored for it. `leaves` is None when there is not one row of them."""

    chain: str
    number: int
    first: int
    last: int
    root: str
    recorded_at: bytes
    first_at: str | None
    last_at: str | None
    leaves: bytes | None
    leaf_rows: int

    @property
    def count(self) -> int:
        """How many events it seals."""
        return self.last - self.first + 1


@dataclass(slots=True)
class Columns:
    """What is compared beside the evidence; `site` is that of an imported chain."""

    site: str | None


class BatchCheck:
    """Names each event of a batch that is missing, inserted or altered, and each altered leaf.

    Holds the stored leaves and a hash for each level of the tree, never the events: there may be any number of them.
    """

    def __init__(self, batch: Batch, columns: Columns | None, findings: Findings) -> None:
        self.events = 0
        self.leaves_hold = batch.leaves is not None and _hold(batch)
        """Whether the stored leaves have the root that was signed."""
        self._batch = batch
        self._columns = columns
        self._findings = findings
        self._tree = MerkleTree()
        self._expected = batch.first
        self._once = True
        self._inserted = Bounded()
        self._missing = Bounded()
        self._missing_more = 0
        self._differing = Bounded()
        self._altered_columns = Bounded()
        self._times: tuple[str, str] | None = None

    def run(self, events: Iterable[EventRow], take_up: Callable[[EventRow, bool], None]) -> None:
        """Reads all rows of the batch in their order; each goes to `take_up`, with whether it is the one that was sealed."""
        if self._columns is None:
            self._read(events, take_up)
        else:
            self._read(self._with_columns(events, self._columns), take_up)
        self._miss(self._batch.last + 1)
        self._report()

    def _read(self, events: Iterable[EventRow], take_up: Callable[[EventRow, bool], None]) -> None:
        leaves, first, hold = self._batch.leaves or b"", self._batch.first, self.leaves_hold
        for seq, same in groupby(events, key=lambda event: event.number):
            at = (seq - first) * LEAF_BYTES
            stored = leaves[at : at + LEAF_BYTES]
            found, leaf, rows = False, b"", 0
            for event in same:
                leaf = leaf_hash(event.canonical)
                found = found or leaf == stored
                rows += 1
                take_up(event, hold and leaf == stored)
            self.events += rows
            if rows > 1:
                self._once = False
                self._inserted.add(f"{rows} events with one number", seq)
            if stored and not found:
                self._differing.add(seq)
            if seq != self._expected:
                self._miss(seq)
            self._expected = seq + 1
            if not hold:
                self._tree.append(leaf)

    def _miss(self, seq: int) -> None:
        missing = range(self._expected, seq)
        if missing:
            self._once = False
            self._missing.add(missing)
            if self._missing.more:
                self._missing.more = 0
                self._missing_more += missing.stop - missing.start

    def _with_columns(self, events: Iterable[EventRow], columns: Columns) -> Iterator[EventRow]:
        recorded_at, named = self._batch.recorded_at, None
        for event in events:
            if event.columns is None:
                self._altered_columns.add("the row is longer than any event makes it", event.number)
            else:
                try:
                    names = differing_columns(event.canonical, event.columns, columns.site)
                    self._note_time(event.columns)
                except ValueError:
                    names = ["one that is no text"]
                if event.recorded_at != recorded_at:
                    names.append("recorded_at")
                if names and event.number != named:
                    named = event.number
                    self._altered_columns.add(f"columns differ from the event: {', '.join(names)}", named)
            yield event

    def _note_time(self, fields: bytes) -> None:
        time = decode_text(fields.split(b"\t", 2)[OCCURRED_AT_FIELD])
        if time is not None:
            low, high = self._times or (time, time)
            self._times = (min(low, time), max(high, time))

    def _report(self) -> None:
        batch, findings = self._batch, self._findings
        place = (batch.chain, batch.number)
        if batch.leaves is None:
            findings.add("leaves_missing", f"{batch.leaf_rows} rows of leaves, not 1", *place)
        elif len(batch.leaves) != batch.count * LEAF_BYTES:
            message = f"{len(batch.leaves)} bytes of leaves, not {batch.count * LEAF_BYTES}"
            findings.add("leaf_altered", message, *place)
        for message, seq in self._inserted.kept:
            findings.add("event_inserted", message, *place, seq)
        for (missing,) in self._missing.kept:
            findings.add_range("event_missing", "event is not there", *place, missing)
        findings.more += self._inserted.more + self._missing_more
        self._compare(place)
        if self._columns is not None:
            self._report_columns(place)

    def _compare(self, place: tuple[str, int]) -> None:
        if self.leaves_hold:
            self._name_differing("event_altered", "event is not the one that was sealed")
        elif self._once and self.events == self._batch.count and self._tree.root().hex() == self._batch.root:
            self._name_differing("leaf_altered", "the stored leaf is not that of the event")
        else:
            message = "events and leaves of the batch do not give the sealed root"
            self._findings.add("event_altered", message, *place)
            self._name_differing("event_altered", "the event and its leaf differ, and neither gives the sealed root")

    def _name_differing(self, kind: str, message: str) -> None:
        for (seq,) in self._differing.kept:
            self._findings.add(kind, message, self._batch.chain, self._batch.number, seq)
        self._findings.more += self._differing.more

    def _report_columns(self, place: tuple[str, int]) -> None:
        for message, seq in self._altered_columns.kept:
            self._findings.add("column_altered", message, *place, seq)
        self._findings.more += self._altered_columns.more
        if (self._times or (None, None)) != (self._batch.first_at, self._batch.last_at):
            self._findings.add("column_altered", "first_at and last_at are not those of the events", *place)


def _hold(batch: Batch) -> bool:
    leaves = batch.leaves or b""
    return len(leaves) == batch.count * LEAF_BYTES and root_of_leaves(leaves).hex() == batch.root
