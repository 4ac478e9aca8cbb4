"""What verification finds, in the shape of the report."""

from collections.abc import Iterable
from dataclasses import dataclass, field

LISTED_LIMIT = 1000
"""As many findings are listed; the rest are counted."""


@dataclass
class Findings:
    """Findings in the order in which they were made; a second one of the same kind and place says nothing new."""

    listed: list[dict] = field(default_factory=list)
    more: int = 0
    _places: set[tuple] = field(default_factory=set)

    def add(
        self, kind: str, message: str, chain: str | None = None, batch: int | None = None, seq: int | None = None
    ) -> None:
        """Names one thing that is not as it must be, and where."""
        if len(self.listed) >= LISTED_LIMIT:
            self.more += 1
            return
        place = (kind, chain, batch, seq) if chain is not None else (kind, message)
        if place in self._places:
            return
        self._places.add(place)
        self.listed.append({"kind": kind, "chain_id": chain, "batch_no": batch, "seq": seq, "message": message})

    def add_range(self, kind: str, message: str, chain: str, batch: int, seqs: range) -> None:
        """The same finding for each of many events, without walking through those that are not listed."""
        room = max(LISTED_LIMIT - len(self.listed), 0)
        for seq in seqs[:room]:
            self.add(kind, message, chain, batch, seq)
        self.more += max(seqs.stop - max(seqs.start, seqs.start + room), 0)

    def take_over(self, listed: Iterable[dict], more: int) -> None:
        """Takes up what another process found."""
        for found in listed:
            self.add(found["kind"], found["message"], found["chain_id"], found["batch_no"], found["seq"])
        self.more += more


class Bounded:
    """As many findings of one batch as can be listed, and the count of the others: one batch may hold millions."""

    def __init__(self) -> None:
        self.kept: list[tuple] = []
        self.more = 0

    def add(self, *finding: object) -> None:
        """Keeps the arguments of a finding."""
        if len(self.kept) < LISTED_LIMIT:
            self.kept.append(finding)
        else:
            self.more += 1
