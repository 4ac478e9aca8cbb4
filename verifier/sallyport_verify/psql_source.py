"""Reads a database through psql: one process per table, all on one exported snapshot, nothing but COPY TO STDOUT."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from .directory_source import READ_BUFFER_BYTES
from .export_script import queries, settings
from .failure import EXIT_UNREACHABLE, Failure

CONNECT_TIMEOUT_SECONDS = "30"
_BEGIN = "begin isolation level repeatable read, read only;"
_SNAPSHOT = re.compile(r"[0-9A-F-]{1,64}")


@dataclass(frozen=True)
class DatabaseSource:
    """A database at one moment: the snapshot lives as long as the session that exported it."""

    url: str
    script: str
    columns: bool
    snapshot: str

    @contextmanager
    def open(self, tables: tuple[str, ...], low: str = "", high: str = "~") -> Iterator[dict[str, BinaryIO]]:
        """The rows of each table, those of chains from `low` up to `high`.

        Raises Failure when psql is missing, or when it fails, even at the very end of a table.
        """
        sessions = _Sessions(self.url)
        statements = queries(self.script, self.columns)
        try:
            yield {table: sessions.copy(self.snapshot, _within(statements[table], low, high)) for table in tables}
        finally:
            sessions.close()


@contextmanager
def open_database(url: str, script: str, columns: bool) -> Iterator[DatabaseSource]:
    """Holds a snapshot of a database."""
    sessions = _Sessions(url)
    try:
        yield DatabaseSource(url, script, columns, sessions.export_snapshot())
    finally:
        sessions.close()


def _within(query: str, low: str, high: str) -> str:
    bounds = [f"chain_id >= '{low}'"] if low else []
    bounds += [f"chain_id < '{high}'"] if high != "~" else []
    return f"select * from ({query}) as part where {' and '.join(bounds)}" if bounds else query


class _Copy:
    """What one psql writes; that it failed is said where its output ends."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._errors = errors
        self._readline = process.stdout.readline

    def readline(self, limit: int) -> bytes:
        line = self._readline(limit)
        if not line and self._process.wait() != 0:
            raise _failed(self._process, self._errors)
        return line


class _Sessions:
    def __init__(self, url: str) -> None:
        self._url, self._environment = _without_password(url)
        self._processes: list[subprocess.Popen[bytes]] = []

    def export_snapshot(self) -> str:
        """Begins a transaction that stays open until the end, and returns the name of its snapshot.

        The name is of the server's choosing and goes into a script of psql, which can run programs: only what is a name
        is taken.
        """
        process, errors = self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{_BEGIN}\nselect pg_export_snapshot();\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            pass
        name = process.stdout.readline(256).decode("utf-8", "replace").strip()
        if name == "":
            raise _failed(process, errors)
        if _SNAPSHOT.fullmatch(name) is None:
            message = "the server answers with a snapshot whose name is none: it is no PostgreSQL, or hostile"
            raise Failure("ERR_AUDIT_PSQL", message, EXIT_UNREACHABLE)
        return name

    def copy(self, snapshot: str, query: str) -> BinaryIO:
        """Lines of a query on that snapshot."""
        process, errors = self._start()
        assert process.stdin is not None
        script = f"{settings()}\n{_BEGIN}\nset transaction snapshot '{snapshot}';\ncopy ({query}) to stdout;\n"
        try:
            process.stdin.write(script.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        return _Copy(process, errors)  # type: ignore[return-value]

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
            for stream in (process.stdin, process.stdout):
                try:
                    if stream is not None:
                        stream.close()
                except BrokenPipeError:
                    pass
            process.wait()

    def _start(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        errors = TemporaryFile()
        try:
            process = subprocess.Popen(
                ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self._url, "-f", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=READ_BUFFER_BYTES,
                env=self._environment,
            )
        except FileNotFoundError as error:
            message = "psql is not there: install PostgreSQL's client, or verify a directory with --dump"
            raise Failure("ERR_AUDIT_PSQL", message, EXIT_UNREACHABLE) from error
        self._processes.append(process)
        return process, errors


def _failed(process: subprocess.Popen[bytes], errors: IO[bytes]) -> Failure:
    if process.stdin is not None and not process.stdin.closed:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
    process.wait()
    errors.seek(0)
    said = " ".join(errors.read(4096).decode("utf-8", "replace").split())
    return Failure("ERR_AUDIT_PSQL", f"psql could not read the database: {said}", EXIT_UNREACHABLE)


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """The address without its password, which other users of the machine would see in the list of processes."""
    environment = {"PGCONNECT_TIMEOUT": CONNECT_TIMEOUT_SECONDS} | dict(os.environ)
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise Failure("ERR_AUDIT_USAGE", "the address of a database is no postgres:// address")
    if parts.password is None:
        return url, environment
    environment["PGPASSWORD"] = unquote(parts.password)
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}@{host}")), environment
