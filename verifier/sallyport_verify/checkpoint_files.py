"""Files of checkpoints, read as far as they went before the database was."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import LONGEST_LINE_BYTES, Checkpoint, read_line
from .failure import Failure

_CHUNK = LONGEST_LINE_BYTES + 2


@dataclass(frozen=True)
class CheckpointFile:
    """A file and the count of its bytes that are read."""

    path: str
    size: int


def open_checkpoints(path: str) -> CheckpointFile:
    """Notes how far a file goes now. Raises Failure."""
    try:
        return CheckpointFile(path, Path(path).stat().st_size)
    except OSError as error:
        raise Failure("ERR_AUDIT_USAGE", f"{path}: {error.strerror}") from error


def read_checkpoints(file: CheckpointFile) -> Iterator[tuple[int, Checkpoint | None]]:
    """The number of each line that says something, with its checkpoint or None when it is none.

    Left out are empty lines and what a crash left: a last line without an end that is no checkpoint, and a line that is the
    beginning of the next one.
    """
    waiting: tuple[int, bytes, Checkpoint | None] | None = None
    for number, line, ended in _lines(file):
        if waiting is not None:
            if waiting[2] is not None or not line.startswith(waiting[1]):
                yield waiting[0], waiting[2]
            waiting = None
        checkpoint = read_line(line)
        if not line or (checkpoint is None and not ended):
            continue
        waiting = (number, line, checkpoint)
    if waiting is not None:
        yield waiting[0], waiting[2]


def _lines(file: CheckpointFile) -> Iterator[tuple[int, bytes, bool]]:
    """Number, bytes without the end and whether there is one; of a line that is too long, as much as tells that."""
    left, number = file.size, 0
    try:
        with Path(file.path).open("rb") as opened:
            while left > 0 and (line := opened.readline(min(_CHUNK, left))):
                left -= len(line)
                rest = line
                while not rest.endswith(b"\n") and left > 0 and (rest := opened.readline(min(_CHUNK, left))):
                    left -= len(rest)
                number += 1
                ended = rest.endswith(b"\n")
                yield number, line.removesuffix(b"\n"), ended
    except OSError as error:
        raise Failure("ERR_AUDIT_USAGE", f"{file.path}: {error.strerror}") from error
