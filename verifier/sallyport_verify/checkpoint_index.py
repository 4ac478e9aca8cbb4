"""What must be remembered of checkpoints until all are read: on disk, as they may be of many years."""

import sqlite3
from collections.abc import Iterator
from hashlib import sha256

from .checkpoint import Checkpoint

_SCHEMA = """
pragma journal_mode = off;
pragma synchronous = off;
pragma cache_size = -4096;
create table line (
  signer text, series text, number integer, digest text, prev text, id text, said blob,
  primary key (signer, series, number, digest)) without rowid;
create index line_id on line (id);
create table named (stored text primary key) without rowid;
create table row (id text primary key) without rowid;
"""


class CheckpointIndex:
    """Lines that are believed, and ids of rows."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("begin")

    def add_line(self, checkpoint: Checkpoint) -> None:
        """A line; the same one again is one."""
        row = (
            checkpoint.signer, checkpoint.series, checkpoint.number, checkpoint.digest.hex(), checkpoint.prev,
            checkpoint.id, _said(checkpoint),
        )  # fmt: skip
        self._database.execute("insert or ignore into line values (?, ?, ?, ?, ?, ?, ?)", row)
        if checkpoint.stored is not None:
            self._database.execute("insert or ignore into named values (?)", (checkpoint.stored,))

    def add_row(self, row_id: str) -> None:
        """The id of a row."""
        self._database.execute("insert or ignore into row values (?)", (row_id,))

    def differs_from_lines(self, row_id: str, checkpoint: Checkpoint) -> bool:
        """Whether there are lines of that id and any of them says something else."""
        found = self._database.execute("select said from line where id = ?", (row_id,)).fetchall()
        return any(said != _said(checkpoint) for (said,) in found)

    def count_lines(self) -> int:
        """How many there are, each id once."""
        return self._database.execute("select count(distinct id) from line").fetchone()[0]

    def holes(self) -> Iterator[tuple[str, str, int]]:
        """Signer, series and first missing number of each hole."""
        yield from self._database.execute(
            "select signer, series, before + 1 from (select signer, series, number, "
            "lag(number) over (partition by signer, series order by number) as before from line) "
            "where number > before + 1"
        )

    def forks(self) -> Iterator[tuple[str, str, int]]:
        """Signer, series and number where two differ, or where one does not follow the one before it."""
        yield from self._database.execute(
            "select signer, series, number from line group by signer, series, number having count(*) > 1 union "
            "select l.signer, l.series, l.number from line as l where exists (select 1 from line as b "
            "where b.signer = l.signer and b.series = l.series and b.number = l.number - 1) and not exists "
            "(select 1 from line as b where b.signer = l.signer and b.series = l.series and b.number = l.number - 1 "
            "and b.digest = l.prev)"
        )

    def not_stored(self) -> Iterator[str]:
        """What lines say is in the database, and is not."""
        for (stored,) in self._database.execute("select stored from named where stored not in (select id from row)"):
            yield stored


def _said(checkpoint: Checkpoint) -> bytes:
    return sha256(checkpoint.signature + checkpoint.canonical).digest()
