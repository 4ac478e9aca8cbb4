"""Part of the chains, from one id up to another: what one process verifies."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .chain import ChainCheck, ChainTotals, Judgement
from .control import ControlChanges
from .directory_source import DirectorySource
from .failure import Failure
from .findings import Findings
from .progress import Progress
from .psql_source import DatabaseSource
from .retention import Retention
from .rows import END, RowReader
from .seal_index import SealIndex
from .sealed_events import SealedEvents
from .trust import Trust

Source = DatabaseSource | DirectorySource
EVIDENCE = ("seals", "leaves", "events")


@dataclass(frozen=True)
class Task:
    """What every part is verified by. `sites` has the site of each imported chain."""

    source: Source
    trust: Trust | None
    site_trust: dict[str, Trust]
    sites: dict[str, str]
    columns: bool
    retention: Retention
    control: ControlChanges | None

    def judgement(self, chain: str) -> Judgement:
        """By what a chain is judged."""
        site = self.sites.get(chain)
        foreign = site is not None and site in self.site_trust
        trust = self.site_trust[site] if site is not None and foreign else self.trust
        return Judgement(trust, site, foreign, self.columns, self.retention)


@dataclass
class Outcome:
    """What came of one part; the rest is in its index."""

    chains: dict[str, ChainTotals]
    findings: Findings
    recorded: dict[str, int]
    control: ControlChanges | None


def check_part(task: Task, low: str, high: str, index: SealIndex, progress: Progress) -> Outcome:
    """Verifies the chains from `low` up to, but not with, `high`."""
    findings = Findings()
    events = SealedEvents(index, task.retention.wanted_hashes(), task.control)
    chains: dict[str, ChainTotals] = {}
    with task.source.open(EVIDENCE, low, high) as tables:
        readers = [RowReader(table, tables[table], low, high) for table in EVIDENCE]
        while (chain := min(reader.chain for reader in readers)) != END:
            check = ChainCheck(chain, task.judgement(chain), findings, index, events, progress.batch_checked)
            chains[chain] = check.run(*readers)
    progress.clear()
    return Outcome(chains, findings, events.recorded, task.control)


def check_parts(task: Task, bounds: list[str], index: SealIndex) -> Outcome:
    """Verifies all chains, each part between two bounds in a process of its own."""
    if len(bounds) == 2:
        return check_part(task, *bounds, index, Progress())
    # What is imported here costs time at every start, and one process needs none of it.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    whole = Outcome({}, Findings(), {}, task.control)
    with TemporaryDirectory(prefix="sallyport-verify-") as directory:
        files = [Path(directory) / f"{number}.index" for number in range(len(bounds) - 1)]
        with ProcessPoolExecutor(len(files), mp_context=get_context("spawn")) as pool:
            parts = [
                pool.submit(_check_in_process, task, low, high, file)
                for low, high, file in zip(bounds, bounds[1:], files, strict=False)
            ]
            for part, file in zip(parts, files, strict=True):
                _take_over(whole, part.result())
                index.take_over(file)
    return whole


def _take_over(whole: Outcome, part: Outcome | Failure) -> None:
    if isinstance(part, Failure):
        raise part
    whole.chains.update(part.chains)
    whole.findings.take_over(part.findings.listed, part.findings.more)
    for named, time_ms in part.recorded.items():
        whole.recorded[named] = max(time_ms, whole.recorded.get(named, time_ms))
    if whole.control is not None and part.control is not None:
        whole.control.take_over(part.control)


def _check_in_process(task: Task, low: str, high: str, file: Path) -> Outcome | Failure:
    index = SealIndex(file)
    try:
        outcome = check_part(task, low, high, index, Progress(shown=False))
    except Failure as failure:
        return failure
    index.close()
    return outcome
