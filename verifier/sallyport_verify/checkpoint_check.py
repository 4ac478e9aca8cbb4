"""Checkpoints of files and of audit.checkpoint, against each other and against the seals."""

from collections.abc import Iterable
from typing import BinaryIO

from .checkpoint import Checkpoint, read_row
from .checkpoint_files import CheckpointFile, read_checkpoints
from .checkpoint_index import CheckpointIndex
from .copy_text import decode_bytea, decode_text
from .findings import Findings
from .kinds import instant
from .rows import broken, limited_lines
from .seal_index import SealIndex
from .trust import Trust, signature_holds


class CheckpointCheck:
    """Verifies checkpoints when all seals were read. Holds, for each chain, the head that was last compared."""

    def __init__(self, trust: Trust | None, index: SealIndex, findings: Findings) -> None:
        self.anchored: set[str] = set()
        """Chains that a believed line names."""
        self._trust = trust
        self._index = index
        self._findings = findings
        self._seen = CheckpointIndex()
        self._compared: dict[str, tuple[int, str]] = {}
        self._missing: dict[str, tuple[int, str]] = {}

    def run(self, files: Iterable[CheckpointFile], rows: BinaryIO) -> int:
        """Reads all lines, then all rows, and returns how many lines are believed, each id once."""
        for file in files:
            for number, checkpoint in read_checkpoints(file):
                self._take_line(f"line {number} of {file.path}", checkpoint)
        for number, line in enumerate(limited_lines("checkpoints", rows), 1):
            try:
                *columns, signature, canonical = line.split(b"\t")
                texts = [decode_text(column) for column in columns]
                bytes_of = (decode_bytea(canonical) or b"", decode_bytea(signature) or b"")
            except ValueError as error:
                raise broken("checkpoints", number, str(error)) from error
            self._take_row(texts, *bytes_of)
        self._check_series()
        for chain, (batch, by) in sorted(self._missing.items()):
            message = f"checkpoint {by} saw this batch, which is not there"
            self._findings.add("checkpoint_head_missing", message, chain, batch)
        return self._seen.count_lines()

    def check_stored(self, removed_before_ms: int | None) -> None:
        """Names checkpoints that lines say were stored and are not there, but for those of a time that retention removed."""
        for stored in self._seen.not_stored():
            if removed_before_ms is None or _made_ms(stored) >= removed_before_ms:
                self._findings.add("checkpoint_missing", f"checkpoint {stored}, which was stored, is not there")

    def _take_line(self, place: str, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None:
            self._findings.add("checkpoint_altered", f"{place} is no checkpoint")
        elif self._believes(place, checkpoint):
            self._seen.add_line(checkpoint)
            self.anchored.update(head["chain"] for head in checkpoint.heads)
            self._check_heads(checkpoint)

    def _take_row(self, columns: list[str | None], canonical: bytes, signature: bytes) -> None:
        place = f"row {columns[0]} of audit.checkpoint"
        self._seen.add_row(columns[0] or "")
        checkpoint = read_row(canonical, signature)
        if checkpoint is None:
            self._findings.add("checkpoint_altered", f"{place} is no checkpoint")
            return
        said = [checkpoint.id, checkpoint.series, str(checkpoint.number), instant(checkpoint.time), checkpoint.signer]
        if columns != said:
            self._findings.add("checkpoint_altered", f"{place}: its columns differ from the checkpoint")
        if self._seen.differs_from_lines(columns[0] or "", checkpoint):
            self._findings.add("checkpoint_altered", f"{place} differs from the line of that id")
        if self._believes(place, checkpoint):
            self._check_heads(checkpoint)

    def _believes(self, place: str, checkpoint: Checkpoint) -> bool:
        if self._trust is None:
            return True
        signer = self._trust.signers.get(checkpoint.signer)
        if signer is None:
            message = f"the trust file knows no writer {checkpoint.signer}"
            self._findings.add("checkpoint_signer", message)
        elif not signature_holds(signer.public_key, checkpoint.signature, checkpoint.digest):
            self._findings.add("checkpoint_altered", f"{place}: the signature is not one of {checkpoint.signer}")
        elif signer.revoked_before(checkpoint.time):
            self._findings.add("checkpoint_signer", f"signer {checkpoint.signer} was revoked at {signer.revoked_at}")
        else:
            return True
        return False

    def _check_heads(self, checkpoint: Checkpoint) -> None:
        for head in checkpoint.heads:
            chain, place = head["chain"], (int(head["batch"]), head["seal"])
            if self._compared.get(chain) != place:
                self._compared[chain] = place
                self._check_head(checkpoint.id, chain, *place, own=False)
        if checkpoint.own is not None:
            own = checkpoint.own
            self._check_head(checkpoint.id, own["chain"], int(own["batch"]), own["seal"], own=True)

    def _check_head(self, by: str, chain: str, batch: int, seal: str, own: bool) -> None:
        digest = self._index.digest_of(chain, batch)
        if digest is None:
            if not own and batch > self._missing.get(chain, (0, ""))[0]:
                self._missing[chain] = (batch, by)
        elif digest.hex() != seal:
            message = f"checkpoint {by} saw another seal of this batch"
            self._findings.add("checkpoint_head_differs", message, chain, batch)

    def _check_series(self) -> None:
        for signer, series, number in self._seen.holes():
            message = f"series {series} of {signer} has no number {number}"
            self._findings.add("checkpoint_line_missing", message)
        for signer, series, number in self._seen.forks():
            message = f"series {series} of {signer} was forked at number {number}"
            self._findings.add("checkpoint_forked", message)


def _made_ms(uuid: str) -> int:
    """When a UUIDv7 was made: its first 48 bits."""
    return int(uuid.replace("-", "")[:12], 16)
