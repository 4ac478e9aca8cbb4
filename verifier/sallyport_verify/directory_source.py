"""Reads the files that export.sql wrote."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .failure import Failure

READ_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True)
class DirectorySource:
    """A directory of files, one for each table."""

    directory: Path

    @contextmanager
    def open(self, tables: tuple[str, ...], low: str = "", high: str = "~") -> Iterator[dict[str, BinaryIO]]:
        """The rows of each table; a reader leaves out those of other chains. Raises Failure when a file is missing."""
        with ExitStack() as stack:
            opened = {}
            for table in tables:
                file = self.directory / f"{table}.copy"
                try:
                    opened[table] = stack.enter_context(file.open("rb", buffering=READ_BUFFER_BYTES))
                except OSError as error:
                    raise Failure("ERR_AUDIT_DUMP_INVALID", f"{file}: {error.strerror}") from error
            yield opened
