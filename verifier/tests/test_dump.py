import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from sallyport_verify import rows
from sallyport_verify.command import main
from sallyport_verify.merkle import leaf_hash
from sallyport_verify.part import EVIDENCE

from .page import seal_vector, trust_vector

VERIFIER = Path(__file__).parents[1]
CHAIN = "01b00000-0000-7000-8000-00000000000c"
OTHER = "01b00000-0000-7000-8000-00000000000d"
AT = "2026-01-02 03:04:05.678+00"
TABLES = ("chains", *EVIDENCE, "retention", "checkpoints")


def bytea(data: bytes) -> str:
    return f"\\\\x{data.hex()}"


def event(chain: str, seq: object, canonical: bytes) -> str:
    return f"{chain}\t{seq}\t{AT}\t{bytea(canonical)}\n"


def seal_row(canonical: bytes, batch: object = 1) -> str:
    fields = [CHAIN, str(batch), AT, bytea(canonical), bytea(bytes.fromhex(seal_vector()["signature"]))]
    return "\t".join([*fields, *["\\N"] * rows.SEAL_COLUMNS, "\\N", "\\N"]) + "\n"


class Dump(unittest.TestCase):
    """Whatever stands in a directory, the answer is a report with findings, or a failure; never `verified`."""

    def verify(self, options: tuple[str, ...] = (), **tables: str | bytes) -> tuple[int, dict, str]:
        with tempfile.TemporaryDirectory() as directory:
            for table in TABLES:
                data = tables.get(table, b"")
                Path(directory, f"{table}.copy").write_bytes(data.encode() if isinstance(data, str) else data)
            trust = Path(directory, "trust.json")
            trust.write_bytes(trust_vector())
            with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
                code = main(["--json", "--dump", directory, "--trust", str(trust), *options])
        return code, json.loads(stdout.getvalue()) if stdout.getvalue() else {}, stderr.getvalue()

    def kinds(self, options: tuple[str, ...] = (), **tables: str | bytes) -> list[str]:
        code, report, stderr = self.verify(options, **tables)
        self.assertEqual(code, 1, stderr)
        return sorted({found["kind"] for found in report["findings"]})

    def refused(self, code: str, options: tuple[str, ...] = (), **tables: str | bytes) -> None:
        exit_code, report, stderr = self.verify(options, **tables)
        self.assertEqual((exit_code, report), (2, {}), stderr)
        self.assertIn(code, stderr)

    def test_rows_that_are_none_are_refused(self) -> None:
        for line in (
            "x\n", "\n", "\t\t\t\n", f"{CHAIN}\n", f"{CHAIN}\t1\n", event(CHAIN, "x", b"{}"), event(CHAIN, "1e3", b"{}"),
            event(CHAIN, "9" * 5000, b"{}"), event(CHAIN, 1, b"{}")[:-1], event("~", 1, b"{}"), event("", 1, b"{}"),
            event(CHAIN.upper(), 1, b"{}"), f"{CHAIN}\t1\t{AT}\tzz\n", f"{CHAIN}\t1\t{AT}\t\\\\xzz\n", "\\.\n",
            event(OTHER, 1, b"{}") + event(CHAIN, 1, b"{}"), event(CHAIN, 2, b"{}") + event(CHAIN, 1, b"{}"),
        ):  # fmt: skip
            with self.subTest(line[:60]):
                self.refused("ERR_AUDIT_DUMP_INVALID", events=line)
        for table, data in (
            ("seals", f"{CHAIN}\t1\t{AT}\t\\N\t\\N\n"),
            ("seals", seal_row(b"{}", "x")),
            ("leaves", f"{CHAIN}\t1\t{AT}\n"),
            ("chains", f"{CHAIN}\t1\n"),
            ("retention", "x\n"),
            ("checkpoints", "x\n"),
            ("retention", b"\xff\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
        ):
            with self.subTest(table):
                self.refused("ERR_AUDIT_DUMP_INVALID", **{table: data})

    def test_numbers_below_everything_are_findings(self) -> None:
        self.assertEqual(self.kinds(events=event(CHAIN, -(2**63), b"{}")), ["event_unsealed"])
        self.assertEqual(self.kinds(seals=seal_row(b"{}", -5)), ["chain_row_altered", "seal_altered"])

    def test_bytes_that_break_readers_are_findings(self) -> None:
        for canonical in (
            b"", b"\xff", b"[" * 500_000, b'{"a":' * 200_000, b"9" * 100_000, b"NaN", b'{"v":1e999}', b'"\\ud800"',
            seal_vector()["canonical"].encode().replace(b'"n":3', b'"n":' + b"9" * 10_000),
            seal_vector()["canonical"].encode().replace(b'"n":3', b'"n":-3'),
            seal_vector()["canonical"].encode().replace(b'"first":1', b'"first":-1'),
        ):  # fmt: skip
            with self.subTest(canonical[:40]):
                self.assertEqual(self.kinds(seals=seal_row(canonical)), ["chain_row_altered", "seal_altered"])

    def test_rows_of_retention_and_checkpoints_that_are_none_are_findings(self) -> None:
        for canonical in (b"x", b"[" * 500_000, b"\xff", b'{"v":1}', b'{"batches":[' + b"[" * 5000):
            row = f"{CHAIN}\t\\N\t[\t\\N\t{bytea(b'')}\t{bytea(canonical)}\n"
            self.assertEqual(self.kinds(retention=row), ["retention_invalid"])
            row = f"{CHAIN}\t{CHAIN}\t1\t\\N\tx\t{bytea(b'')}\t{bytea(canonical)}\n"
            self.assertEqual(self.kinds(checkpoints=row), ["checkpoint_altered"])

    def test_columns_of_another_script_are_refused(self) -> None:
        canonical = seal_vector()["canonical"].encode()
        self.refused("ERR_AUDIT_DUMP_INVALID", ("--columns",), seals=seal_row(canonical), events=event(CHAIN, 1, b"{}"))

    def test_a_row_that_is_too_long_is_altered_not_read(self) -> None:
        canonical = seal_vector()["canonical"].encode()
        long = event(CHAIN, 1, b" " * (rows.ROW_LIMIT_BYTES // 2 + 1))
        leaves = f"{CHAIN}\t1\t{AT}\t{bytea(leaf_hash(b'x') * (rows.ROW_LIMIT_BYTES // 64 + 1))}\n"
        report = self.verify(seals=seal_row(canonical), events=long + event(CHAIN, 2, b"{}"), leaves=leaves)[1]
        found = {(finding["kind"], finding["seq"]) for finding in report["findings"]}
        for expected in (("event_altered", None), ("event_missing", 3), ("leaf_altered", None)):
            self.assertIn(expected, found)

    def test_a_missing_file_is_a_failure(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            ran = subprocess.run(
                [sys.executable, "-B", str(VERIFIER), "--dump", directory], capture_output=True, text=True, timeout=60
            )
        self.assertEqual((ran.returncode, ran.stdout), (2, ""))
        self.assertIn("chains.copy", ran.stderr)


class HostileServer(unittest.TestCase):
    """A server answers what it likes; psql runs programs that its script names."""

    def answer(self, answers: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as directory:
            psql = Path(directory, "psql")
            psql.write_text(f'#!/bin/sh\ncat > "{directory}/script-$$" &\n{answers}\nwait\n')
            psql.chmod(psql.stat().st_mode | stat.S_IXUSR)
            ran = subprocess.run(
                [sys.executable, "-B", str(VERIFIER), "--database", "postgres://nobody@localhost/none"],
                capture_output=True,
                text=True,
                timeout=60,
                env=os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"},
            )
            written = [file.read_text() for file in Path(directory).glob("script-*")]
        self.assertTrue(written)
        self.assertFalse([script for script in written if "\\!" in script], "what the server said went into a script")
        return ran

    def test_the_name_of_a_snapshot_is_not_run(self) -> None:
        for name in ("00000003-0000001B-1'; \\! touch /tmp/x --", "\\! id", "x" * 5000, "\x1b[2J"):
            with self.subTest(name[:20]):
                ran = self.answer(f"printf '%s\\n' {json.dumps(name)}")
                self.assertEqual((ran.returncode, ran.stdout), (3, ""), ran.stderr)
                self.assertIn("ERR_AUDIT_PSQL", ran.stderr)
                self.assertNotIn("\x1b", ran.stderr)

    def test_what_a_server_says_of_an_error_steers_no_terminal(self) -> None:
        ran = self.answer("printf '\\033[2Jgone\\n' >&2; exit 1")
        self.assertEqual((ran.returncode, ran.stdout), (3, ""), ran.stderr)
        self.assertIn("gone", ran.stderr)
        self.assertNotIn("\x1b", ran.stderr)


if __name__ == "__main__":
    unittest.main()
