"""What events say that matters beyond their own chain: heads of others, records of retention, changes."""

from .control import ControlChanges
from .countersigned import MARK as HEARTBEAT_MARK
from .countersigned import heads_of
from .retention import MARK as RETAINED_MARK
from .retention import hash_of_record
from .rows import EventRow
from .seal_index import SealIndex


class SealedEvents:
    """Takes up what matters of events within sound seals.

    `recorded` has, for each wanted hash of a request for retention, the latest time of a valid seal over a record of it.
    """

    def __init__(self, index: SealIndex, wanted: frozenset[str], control: ControlChanges | None) -> None:
        self.recorded: dict[str, int] = {}
        self.control = control
        self._index = index
        self._wanted = wanted
        self._records_ms: int | None = None
        self._asks_heads = True

    def begin_batch(self, records_ms: int | None, foreign: bool) -> None:
        """The next events are of one batch.

        `records_ms` is the time of its seal, when one that may record retention made it; `foreign` says that its chain is
        another site's: what that one saw is not here.
        """
        self._records_ms = records_ms
        self._asks_heads = not foreign

    def take(self, event: EventRow, is_sealed: bool) -> None:
        """`is_sealed`: the event's leaf stands among stored leaves whose root was signed."""
        canonical = event.canonical
        if self._asks_heads and HEARTBEAT_MARK in canonical:
            for chain, batch, digest in heads_of(canonical):
                self._index.add_head(chain, batch, digest, f"heartbeat {event.number} of chain {event.chain}")
        if self._records_ms is not None and is_sealed and self._wanted and RETAINED_MARK in canonical:
            named = hash_of_record(canonical)
            if named in self._wanted:
                self.recorded[named] = max(self._records_ms, self.recorded.get(named, self._records_ms))
        if self.control is not None:
            self.control.take(canonical)
