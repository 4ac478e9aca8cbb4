"""Progress on a terminal, and nothing anywhere else."""

import sys
from time import monotonic

INTERVAL_SECONDS = 0.5


class Progress:
    """Shows how far the verification is, at most twice a second."""

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._seals = 0
        self._events = 0
        self._next = 0.0

    def batch_checked(self, events: int) -> None:
        """One more batch, with so many events."""
        self._seals += 1
        self._events += events
        if self._shown and monotonic() >= self._next:
            self._next = monotonic() + INTERVAL_SECONDS
            sys.stderr.write(f"\r{self._seals} seals, {self._events} events\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leaves nothing of it on the terminal."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
