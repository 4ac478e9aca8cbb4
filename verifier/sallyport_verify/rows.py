"""Rows as they come from the source, and reading them in the order of their chains."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .copy_text import decode_bytea, decode_text
from .failure import Failure

END = "~"
"""Sorts behind every chain id."""
ROW_LIMIT_BYTES = 32 * 1024 * 1024
"""A longer row is read past, and counts as one whose bytes are none: evidence is less than half of it, or altered."""
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(slots=True)
class ChainRow:
    """A row of audit.chain: not evidence, compared with what the seals say. `site` is None for a chain written here."""

    chain: str
    number: int
    last_batch: int
    last_seq: int
    head: bytes | None
    final: bool
    events: int
    dropped: int
    site: str | None


@dataclass(slots=True)
class SealRow:
    """A row of audit.seal: evidence and columns. `number` is the batch."""

    chain: str
    number: int
    recorded_at: bytes
    canonical: bytes
    signature: bytes
    columns: list[str | None]
    first_at: str | None
    last_at: str | None


@dataclass(slots=True)
class LeavesRow:
    """A row of audit.seal_leaves. `number` is the batch."""

    chain: str
    number: int
    leaves: bytes


@dataclass(slots=True)
class EventRow:
    """A row of audit.event. `number` is the sequence number.

    `columns` are the undecoded fields behind the canonical bytes, where they were asked for; None of a row that is too long.
    """

    chain: str
    number: int
    recorded_at: bytes
    canonical: bytes
    columns: bytes | None


SEAL_COLUMNS = 12


def _parse_chain(chain: str, rest: bytes) -> ChainRow:
    batch, seq, head, final, events, dropped, site = rest.split(b"\t")
    return ChainRow(
        chain, 0, int(batch), int(seq), decode_bytea(head), final == b"t", int(events), int(dropped), decode_text(site)
    )


def _parse_seal(chain: str, rest: bytes) -> SealRow:
    batch, recorded_at, canonical, signature, *columns, first_at, last_at = rest.split(b"\t")
    if len(columns) != SEAL_COLUMNS:
        raise ValueError(f"{len(columns)} columns of a seal, not {SEAL_COLUMNS}")
    return SealRow(
        chain, int(batch), recorded_at, decode_bytea(canonical) or b"", decode_bytea(signature) or b"",
        [decode_text(column) for column in columns], decode_text(first_at), decode_text(last_at),
    )  # fmt: skip


def _parse_leaves(chain: str, rest: bytes) -> LeavesRow:
    batch, _, leaves = rest.split(b"\t")
    return LeavesRow(chain, int(batch), decode_bytea(leaves) or b"")


def _parse_event(chain: str, rest: bytes) -> EventRow:
    seq, recorded_at, rest = rest.split(b"\t", 2)
    canonical, _, columns = rest.partition(b"\t")
    return EventRow(chain, int(seq), recorded_at, decode_bytea(canonical) or b"", columns)


def _long_chain(chain: str, rest: bytes) -> ChainRow:
    raise ValueError(f"more than {ROW_LIMIT_BYTES} bytes")


def _long_seal(chain: str, rest: bytes) -> SealRow:
    batch, recorded_at, _ = rest.split(b"\t", 2)
    return SealRow(chain, int(batch), recorded_at, b"", b"", [None] * SEAL_COLUMNS, None, None)


def _long_leaves(chain: str, rest: bytes) -> LeavesRow:
    return LeavesRow(chain, int(rest.partition(b"\t")[0]), b"")


def _long_event(chain: str, rest: bytes) -> EventRow:
    seq, recorded_at, _ = rest.split(b"\t", 2)
    return EventRow(chain, int(seq), recorded_at, b"", None)


Parser = Callable[[str, bytes], Any]
PARSERS: dict[str, tuple[Parser, Parser]] = {
    "chains": (_parse_chain, _long_chain),
    "seals": (_parse_seal, _long_seal),
    "leaves": (_parse_leaves, _long_leaves),
    "events": (_parse_event, _long_event),
}


class RowReader:
    """Rows of one table, which come in the order of their chains and of their numbers within them.

    Rows that are not in that order would be verified against the wrong ones: Failure. Only chains from `low` up to, but
    not with, `high` are handed out.
    """

    def __init__(self, table: str, lines: BinaryIO, low: str = "", high: str = END) -> None:
        self._table = table
        self._rows = self._parse(lines, low, high)
        self._next = next(self._rows, None)

    @property
    def chain(self) -> str:
        """Chain of the next row, or END."""
        return END if self._next is None else self._next.chain

    def rows_of(self, chain: str, up_to: int | None = None) -> Iterator:
        """Rows of `chain`, which must be the next one, up to that number, or all."""
        row = self._next
        rows = self._rows
        while row is not None and row.chain == chain and (up_to is None or row.number <= up_to):
            self._next = next(rows, None)
            yield row
            row = self._next

    def has_rows(self, chain: str, up_to: int) -> bool:
        """Whether the next row is one of `chain` up to that number."""
        row = self._next
        return row is not None and row.chain == chain and row.number <= up_to

    def _parse(self, lines: BinaryIO, low: str, high: str) -> Iterator:
        parse, parse_long = PARSERS[self._table]
        raw, chain, last = b"\0", "", 0
        for number, (line, cut) in enumerate(_limited(lines), 1):
            key, _, rest = line.partition(b"\t")
            try:
                if key != raw:
                    if key < raw or _UUID.fullmatch(key) is None:
                        raise ValueError("rows are not in the order of their chains")
                    raw, chain, last = key, key.decode(), -(2**63)
                if chain < low:
                    continue
                if chain >= high:
                    return
                row = parse_long(chain, rest) if cut else parse(chain, rest)
                if row.number < last:
                    raise ValueError("rows are not in their order")
                last = row.number
            except ValueError as error:
                raise broken(self._table, number, str(error)) from error
            yield row


def limited_lines(table: str, lines: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends. Raises Failure for one that is too long."""
    for number, (line, cut) in enumerate(_limited(lines), 1):
        if cut:
            raise broken(table, number, f"more than {ROW_LIMIT_BYTES} bytes")
        yield line


def broken(table: str, number: int, why: str) -> Failure:
    """What is said of a row that is none."""
    return Failure("ERR_AUDIT_DUMP_INVALID", f"{table}, row {number}: {why}")


def _limited(lines: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Each line without its end, or the beginning of one that is too long, and whether it is one."""
    readline = lines.readline
    while line := readline(ROW_LIMIT_BYTES):
        if line.endswith(b"\n"):
            yield line[:-1], False
            continue
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = readline(ROW_LIMIT_BYTES)
        if not rest:
            raise Failure("ERR_AUDIT_DUMP_INVALID", "the last line is cut off")
        yield line, True
