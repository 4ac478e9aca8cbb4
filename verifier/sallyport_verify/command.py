"""The command line: options, files, exit codes."""

import argparse
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .checkpoint_files import open_checkpoints
from .control import TABLES as CONTROL_TABLES
from .control import ControlChanges, read_control
from .directory_source import DirectorySource
from .export_script import AUDIT_SCRIPT, CONTROL_SCRIPT
from .failure import EXIT_UNREACHABLE, Failure
from .heads import read_head
from .moment import duration_ms
from .part import Source
from .proof import check_proof
from .psql_source import open_database
from .trust import Trust, read_trust
from .verification import Anchors, Options, verify

EXIT_OK = 0
EXIT_FINDINGS = 1
FINDINGS_SHOWN = 100
MOST_WORKERS = 64
_PINNED = re.compile(r"(.+)@([0-9a-fA-F]{64})")


def main(arguments: list[str]) -> int:
    """Runs the verifier and returns its exit code: 0 verified, 1 findings, 2 bad usage or file, 3 no psql or database."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        report = _run(options) if options.proof is None else _check_proof(options)
    except Failure as failure:
        _say_failure(failure, options.json)
        return failure.exit_code
    except (MemoryError, RecursionError, ArithmeticError, LookupError, TypeError, ValueError, sqlite3.Error, OSError) as error:
        # Whatever it was, the trail was not read to its end; an exit code of 1 would say that it was.
        unexpected = Failure("ERR_AUDIT_UNEXPECTED", f"{type(error).__name__}: {error}", EXIT_UNREACHABLE)
        _say_failure(unexpected, options.json)
        return unexpected.exit_code
    if options.json:
        print(json.dumps(report))
    else:
        (_print_report if options.proof is None else _print_proof)(report)
    return EXIT_OK if report["ok"] else EXIT_FINDINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 verifier",
        description="Checks every chain of a Sallyport audit trail: leaves, roots, seals, signatures, contiguity, heads; "
        "names the seal and the event of each finding. Exits 1 on any finding.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--database", metavar="URL", help="audit database, read through psql; default: DATABASE_URL")
    source.add_argument("--dump", metavar="DIR", type=Path, help="directory that export.sql wrote, instead of a database")
    source.add_argument("--proof", metavar="FILE", help="check what `sallyport audit prove` wrote, and nothing else")
    parser.add_argument("--trust", metavar="FILE", help="trust file: which signers to believe")
    parser.add_argument("--root", metavar="HEX", help="public key of the audit root that must have signed the trust file")
    parser.add_argument(
        "--heads", metavar="FILE", nargs="+", action="extend", help="head files of writers: anchors against truncation"
    )
    parser.add_argument(
        "--site-trust", metavar="NAME=FILE[@ROOT]", nargs="+", action="extend",
        help="trust file of another site, for the chains imported from it; @ROOT pins its audit root",
    )  # fmt: skip
    parser.add_argument(
        "--keep", metavar="DURATION", help="what was younger than this when an operator had it removed must be there, e.g. 400d"
    )
    parser.add_argument(
        "--control", metavar="URL", help="control database, or a directory that export-control.sql wrote: "
        "name each change without an event",
    )  # fmt: skip
    parser.add_argument("--workers", metavar="N", type=_count, default=1, help="processes that share the chains; default: 1")
    parser.add_argument(
        "--checkpoints", metavar="FILE", nargs="+", action="extend",
        help="files of checkpoints that writers keep outside the database",
    )  # fmt: skip
    parser.add_argument("--columns", action="store_true", help="also compare every column with the event it is derived from")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"not 1 to {MOST_WORKERS}")
    return int(text)


def _run(options: argparse.Namespace) -> dict:
    if options.root is not None and options.trust is None:
        raise Failure("ERR_AUDIT_USAGE", "--root says who must have signed the trust file: --trust FILE is missing")
    keep_ms = None if options.keep is None else duration_ms(options.keep)
    if options.keep is not None and keep_ms is None:
        raise Failure("ERR_AUDIT_USAGE", "--keep is no duration like 400d, 24h or 90m")
    trust = None if options.trust is None else read_trust(_read(options.trust), options.root)
    heads = [head for file in options.heads or [] if (head := read_head(file, _read(file))) is not None]
    checkpoints = None if options.checkpoints is None else [open_checkpoints(file) for file in options.checkpoints]
    anchors = Anchors(trust, _read_site_trust(options.site_trust or []), heads, checkpoints)
    # Before the audit database: an event that comes in between is one too many there, never one too few.
    control = None if options.control is None else _read_control(options.control)
    with _open_source(options) as source:
        return verify(source, anchors, Options(options.columns, keep_ms, control, options.workers))


def _read_site_trust(given: list[str]) -> dict[str, Trust]:
    trust = {}
    for said in given:
        name, equals, file = said.partition("=")
        pinned = _PINNED.fullmatch(file)
        if not equals or not name or not file:
            raise Failure("ERR_AUDIT_USAGE", "--site-trust is NAME=FILE or NAME=FILE@ROOT")
        if name in trust:
            raise Failure("ERR_AUDIT_USAGE", f"--site-trust names site {name} twice")
        file, root = (pinned[1], pinned[2]) if pinned is not None else (file, None)
        trust[name] = read_trust(_read(file), root)
    return trust


def _read_control(where: str) -> ControlChanges:
    if not where.startswith(("postgres://", "postgresql://")):
        with DirectorySource(Path(where)).open(CONTROL_TABLES) as tables:
            return read_control(tables)
    with open_database(where, CONTROL_SCRIPT, False) as source, source.open(CONTROL_TABLES) as tables:
        return read_control(tables)


def _check_proof(options: argparse.Namespace) -> dict:
    trust = None if options.trust is None else read_trust(_read(options.trust), options.root)
    return check_proof(options.proof, _read(options.proof), trust)


@contextmanager
def _open_source(options: argparse.Namespace) -> Iterator[Source]:
    if options.dump is not None:
        yield DirectorySource(options.dump)
        return
    url = options.database or os.environ.get("DATABASE_URL")
    if not url:
        raise Failure("ERR_AUDIT_USAGE", "what to verify is missing: --database URL or --dump DIR")
    with open_database(url, AUDIT_SCRIPT, options.columns) as source:
        yield source


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Failure("ERR_AUDIT_USAGE", f"{file}: {error.strerror}") from error


def _say_failure(failure: Failure, as_json: bool) -> None:
    said = {"error": {"code": failure.code, "message": str(failure)}}
    print(json.dumps(said) if as_json else f"{failure.code}: {_shown(str(failure))}", file=sys.stderr)


def _print_report(report: dict) -> None:
    for finding in report["findings"][:FINDINGS_SHOWN]:
        at = "".join(
            f" {name} {finding[member]}"
            for name, member in (("chain", "chain_id"), ("batch", "batch_no"), ("event", "seq"))
            if finding[member] is not None
        )
        print(_shown(f"{finding['kind']}{at}: {finding['message']}"))
    left = len(report["findings"]) - FINDINGS_SHOWN + report["more_findings"]
    if left > 0:
        print(f"and {left} more findings")
    for retained in report["retained"]:
        print(
            _shown(
                f"removed by {retained['operator']} ({retained['signer']}) at {retained['time']}, before {retained['before']}: "
                f"{retained['batches']} batches, {retained['events']} events"
            )
        )
    for note in report["notes"]:
        print(_shown(f"note: {note}"))
    print(
        f"{'verified' if report['ok'] else 'NOT verified'}: {report['chains']} chains, {report['seals']} seals, "
        f"{report['events']} events; truncation {report['truncation']}; {report['breaks']} breaks, "
        f"{report['dropped']} dropped"
    )


def _print_proof(report: dict) -> None:
    for finding in report["findings"]:
        print(_shown(f"{finding['kind']}: {finding['message']}"))
    place = f"event {report['seq']} of chain {report['chain_id']}, sealed by {report['signer']} at {report['sealed_at']}"
    print(f"{'verified' if report['ok'] else 'NOT verified'}: {place}")
    print(_shown(report["event"]))


def _shown(text: str) -> str:
    """Text without what could steer a terminal."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
