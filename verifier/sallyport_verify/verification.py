"""The whole trail: every chain, then between chains, then heads from outside."""

from dataclasses import dataclass

from .chain import check_absent
from .checkpoint_check import CheckpointCheck
from .checkpoint_files import CheckpointFile
from .control import ControlChanges
from .countersigned import check_countersigned
from .findings import Findings
from .heads import Head
from .links import check_chain_rows, check_continuations, check_heads
from .part import Outcome, Source, Task, check_parts
from .retention import Retention, read_retention
from .rows import END, ChainRow, RowReader
from .seal_index import SealIndex
from .trust import Trust


@dataclass
class Anchors:
    """What comes from outside the database: trust files, those of other sites by name, heads, and files of checkpoints.

    `checkpoints` is None where none were asked for.
    """

    trust: Trust | None
    site_trust: dict[str, Trust]
    heads: list[Head]
    checkpoints: list[CheckpointFile] | None


@dataclass
class Options:
    """`keep_ms` is None when nobody said how long things are kept, `control` when no control database was read."""

    columns: bool
    keep_ms: int | None
    control: ControlChanges | None
    workers: int


def verify(source: Source, anchors: Anchors, options: Options) -> dict:
    """The report, in the shape of `sallyport audit verify --json`."""
    retained_findings = Findings()
    with source.open(("chains", "retention")) as tables:
        rows = _chain_rows(tables["chains"])
        retention = read_retention(tables["retention"], anchors.trust, options.keep_ms, retained_findings)
    sites = {row.chain: row.site for row in rows if row.site is not None}
    task = Task(source, anchors.trust, anchors.site_trust, sites, options.columns, retention, options.control)
    index = SealIndex()
    outcome = check_parts(task, split(rows, options.workers), index)
    checkpoints = CheckpointCheck(anchors.trust, index, outcome.findings)
    with source.open(("checkpoints",)) as tables:
        believed = checkpoints.run(anchors.checkpoints or [], tables["checkpoints"])
    report = _Report(outcome, rows, retention, retained_findings, anchors, options)
    return report.make(index, checkpoints, believed)


class _Report:
    def __init__(
        self,
        outcome: Outcome,
        rows: list[ChainRow],
        retention: Retention,
        retained_findings: Findings,
        anchors: Anchors,
        options: Options,
    ) -> None:
        self._outcome = outcome
        self._rows = rows
        self._retention = retention
        self._retained_findings = retained_findings
        self._anchors = anchors
        self._options = options

    def make(self, index: SealIndex, checkpoint_check: CheckpointCheck, checkpoints: int) -> dict:
        chains, findings = self._outcome.chains, self._outcome.findings
        continued = check_continuations(chains, index, findings)
        known = check_chain_rows(chains, self._rows, findings)
        anchored = check_heads(index, self._anchors.heads, findings)
        check_countersigned(index, findings)
        self._check_retention(index)
        checkpoint_check.check_stored(self._retention.latest_before_ms())
        change_notes = self._check_changes()
        counted = known | {chain for chain, totals in chains.items() if totals.seals > 0}
        sealed = [totals for totals in chains.values() if totals.seals > 0]
        begun = {totals.chain for totals in sealed if totals.first is not None and totals.first.prev_chain is not None}
        open_ends = counted - continued - anchored - checkpoint_check.anchored
        if self._anchors.trust is None and not self._anchors.heads and checkpoints == 0:
            message = "nothing from outside the database was given: whoever can write it can make it verify"
            findings.add("no_anchor", message)
        return {
            "ok": not findings.listed,
            "chains": len(counted),
            "seals": sum(totals.seals for totals in sealed),
            "events": sum(totals.events for totals in sealed),
            "findings": findings.listed,
            "more_findings": findings.more,
            "truncation": "not checked" if open_ends else "checked",
            "breaks": len(counted - begun),
            "dropped": sum(totals.dropped for totals in sealed),
            "checkpoints": None if self._anchors.checkpoints is None else checkpoints,
            "changes": None if self._options.control is None else self._options.control.count(),
            "retained": self._retention.report(),
            "notes": self._notes(len(open_ends)) + change_notes,
        }

    def _check_retention(self, index: SealIndex) -> None:
        findings = self._outcome.findings
        findings.take_over(self._retained_findings.listed, self._retained_findings.more)
        self._retention.judge(self._outcome.recorded, index, findings)
        for row in index.absent_batches():
            check_absent(row, self._retention, self._options.columns, index, findings)

    def _check_changes(self) -> list[str]:
        if self._options.control is None:
            return []
        return self._options.control.judge(self._retention.latest_before_ms(), self._outcome.findings)

    def _notes(self, open_ends: int) -> list[str]:
        notes = []
        if self._anchors.trust is None:
            notes.append("signatures not checked: no trust file was given")
        untold = sorted({row.site for row in self._rows if row.site is not None} - set(self._anchors.site_trust))
        notes += [f"chains of site {site} were checked with the trust file of this one (--site-trust)" for site in untold]
        if open_ends > 0:
            notes.append(f"truncation not checked: {open_ends} chains that none continues have no head from outside")
        if not self._options.columns:
            notes.append("columns not compared with the events (--columns)")
        if self._options.control is None:
            notes.append("changes of the control database not compared (--control)")
        return notes


def _chain_rows(lines) -> list[ChainRow]:
    reader = RowReader("chains", lines)
    rows: list[ChainRow] = []
    while reader.chain != END:
        rows += reader.rows_of(reader.chain)
    return rows


def split(rows: list[ChainRow], workers: int) -> list[str]:
    """Bounds of parts with about as many events each, by what audit.chain says of them: it decides nothing but who reads."""
    bounds, total, read = [""], sum(max(row.events, 0) for row in rows), 0
    for row in rows:
        if len(bounds) < workers and read * workers >= total * len(bounds) and row.chain != bounds[-1] and read > 0:
            bounds.append(row.chain)
        read += max(row.events, 0)
    return [*bounds, END]
