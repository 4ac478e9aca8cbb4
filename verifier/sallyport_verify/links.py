"""What can only be seen with all chains read: continuations, rows of audit.chain, and heads from outside."""

from collections.abc import Iterable

from .chain import ChainTotals
from .findings import Findings
from .heads import Head
from .rows import ChainRow
from .seal_index import SealIndex


def check_continuations(chains: dict[str, ChainTotals], index: SealIndex, findings: Findings) -> set[str]:
    """Each continued chain is there, ends with the seal that was named, and is continued once. Returns the continued."""
    continued: dict[str, str] = {}
    for chain, totals in sorted(chains.items()):
        first = totals.first
        if first is None or first.prev_chain is None or first.prev is None:
            continue
        before = first.prev_chain
        if before in continued:
            message = f"chains {continued[before]} and {chain} both continue {before}"
            findings.add("chain_forked", message, chain)
        continued.setdefault(before, chain)
        previous = chains.get(before)
        if previous is None or previous.seals == 0:
            findings.add("chain_missing", f"chain {chain} continues this one, which is not there", before)
            continue
        digest = bytes.fromhex(first.prev)
        if previous.last_digest == digest:
            continue
        if index.has_digest(before, digest):
            message = f"chain {chain} continues this one before its end"
            findings.add("chain_forked", message, before, previous.last_batch)
        else:
            message = f"chain {chain} continues this one behind what is there"
            findings.add("chain_truncated", message, before, previous.last_batch)
    return set(continued)


def check_chain_rows(chains: dict[str, ChainTotals], rows: Iterable[ChainRow], findings: Findings) -> set[str]:
    """What audit.chain says of each chain is what its seals say; a row that says more tells of a cut tail.

    Returns the chains that have a row.
    """
    seen = set()
    for row in rows:
        seen.add(row.chain)
        totals = chains.get(row.chain, ChainTotals(row.chain))
        if row.last_batch > totals.last_batch:
            message = f"audit.chain knows batch {row.last_batch}, the last one here is {totals.last_batch}"
            findings.add("chain_truncated", message, row.chain, row.last_batch)
            continue
        differing = _differing_state(row, totals)
        if differing:
            message = f"audit.chain differs from the seals: {', '.join(differing)}"
            findings.add("chain_row_altered", message, row.chain, row.last_batch)
    for chain, totals in chains.items():
        if chain not in seen and totals.seals > 0:
            findings.add("chain_row_altered", "audit.chain does not know the chain", chain)
    return seen


def _differing_state(row: ChainRow, totals: ChainTotals) -> list[str]:
    compared = [("last_batch", row.last_batch, totals.last_batch)]
    if totals.last is not None:
        compared += [
            ("last_seq", row.last_seq, totals.last.last),
            ("head", row.head, totals.last.digest),
            ("final", row.final, totals.last.final),
        ]
    if totals.whole:
        compared += [("events", row.events, totals.sealed_events), ("dropped", row.dropped, totals.dropped)]
    return [name for name, stored, sealed in compared if stored != sealed]


def check_heads(index: SealIndex, heads: Iterable[Head], findings: Findings) -> set[str]:
    """The batch that each head names is there with that digest. Returns the chains that have a head."""
    anchored = set()
    for head in heads:
        anchored.add(head.chain)
        digest = index.digest_of(head.chain, head.batch)
        if digest is None:
            message = f"{head.file} names a batch that is not there: the chain was cut"
            findings.add("head_missing", message, head.chain, head.batch)
        elif head.seal is not None and head.seal != digest:
            findings.add("head_differs", f"{head.file} names another seal for this batch", head.chain, head.batch)
    return anchored
