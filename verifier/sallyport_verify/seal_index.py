"""What must be remembered of every seal until all chains are read: on disk, so that memory does not grow with batches."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

WRITTEN_AT_ONCE = 1000
_SCHEMA = """
pragma journal_mode = off;
pragma synchronous = off;
pragma cache_size = -4096;
create table seal (chain text, batch integer, digest blob, primary key (chain, batch)) without rowid;
create table head (chain text, batch integer, digest blob, seen text, primary key (chain, batch, digest)) without rowid;
create table absent (
  chain text, batch integer, first integer, last integer, root text, time text, first_at text, last_at text,
  primary key (chain, batch)) without rowid;
"""


class SealIndex:
    """Digests of seals, heads that heartbeats named, and batches of which nothing but the seal is there.

    In a file of its own that goes with it; without a path in a temporary one.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._database = sqlite3.connect("" if file is None else file, isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("begin")
        self._pending: dict[str, list[tuple]] = {"seal": [], "head": [], "absent": []}

    def add_seal(self, chain: str, batch: int, digest: bytes) -> None:
        self._add("seal", (chain, batch, digest))

    def add_head(self, chain: str, batch: int, digest: bytes, seen: str) -> None:
        """The first who saw a head is kept."""
        self._add("head", (chain, batch, digest, seen))

    def add_absent(self, row: tuple) -> None:
        """A batch whose events and leaves are not there: `(chain, batch, first, last, root, time, first_at, last_at)`."""
        self._add("absent", row)

    def take_over(self, file: Path) -> None:
        """Takes up what another process wrote."""
        self._flush()
        self._database.execute("commit")
        self._database.execute("attach ? as other", (str(file),))
        for table in self._pending:
            self._database.execute(f"insert or ignore into main.{table} select * from other.{table}")
        self._database.execute("detach other")
        self._database.execute("begin")

    def close(self) -> None:
        """Writes the rest; nothing may be asked afterwards."""
        self._flush()
        self._database.execute("commit")
        self._database.close()

    def digest_of(self, chain: str, batch: int) -> bytes | None:
        """The digest of the seal in that place."""
        found = self._ask("select digest from seal where chain = ? and batch = ?", chain, batch).fetchone()
        return None if found is None else found[0]

    def has_digest(self, chain: str, digest: bytes) -> bool:
        """Whether any seal of the chain has that digest."""
        self._ask("create index if not exists seal_digest on seal (chain, digest)")
        return self._ask("select 1 from seal where chain = ? and digest = ?", chain, digest).fetchone() is not None

    def differing_heads(self) -> Iterator[tuple[str, int, str]]:
        """Chain, batch and first witness of each batch whose seal is another than the one that was seen."""
        yield from self._ask(
            "select h.chain, h.batch, min(h.seen) from head as h join seal as s on s.chain = h.chain and s.batch = h.batch "
            "where s.digest <> h.digest group by h.chain, h.batch order by h.chain, h.batch"
        )

    def missing_heads(self) -> Iterator[tuple[str, int, str]]:
        """Of each chain the last batch that was seen and is not there, with its witness."""
        yield from self._ask(
            "select h.chain, max(h.batch), h.seen from head as h "
            "where not exists (select 1 from seal as s where s.chain = h.chain and s.batch = h.batch) "
            "group by h.chain order by h.chain"
        )

    def absent_batches(self) -> Iterator[tuple]:
        """As they were added, in the order of chains and batches."""
        yield from self._ask("select * from absent order by chain, batch")

    def _add(self, table: str, row: tuple) -> None:
        rows = self._pending[table]
        rows.append(row)
        if len(rows) >= WRITTEN_AT_ONCE:
            self._write(table)

    def _write(self, table: str) -> None:
        rows = self._pending[table]
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._database.executemany(f"insert or ignore into {table} values ({places})", rows)
            rows.clear()

    def _flush(self) -> None:
        for table in self._pending:
            self._write(table)

    def _ask(self, sql: str, *values: object) -> sqlite3.Cursor:
        self._flush()
        return self._database.execute(sql, values)
