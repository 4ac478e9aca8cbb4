"""Changes of the control plane: each has an event, and each thing that stands in the control database has one."""

import re
from dataclasses import dataclass, field
from typing import BinaryIO

from .canonical import Json, canonical_bytes, parse_json
from .cleaning import clean
from .copy_text import decode_text
from .findings import Findings
from .moment import milliseconds
from .rows import broken, limited_lines

TABLES = ("outbox", "things")
LATE_SECONDS = 60
"""What is younger may be on its way."""
_ID = re.compile(rb'"id":"([0-9a-f-]{36})"')
_ACTOR = b'"actor"'


@dataclass(slots=True)
class Change:
    """A row of the outbox, with the events that were found under its id."""

    id: str
    type: str
    age: int
    drained_age: int | None
    at_ms: object
    subject: bytes | None
    data: bytes | None
    same: int = 0
    differing: int = 0


@dataclass(slots=True)
class Thing:
    """What stands in the control database: a connection, an auth-rule, a key, a token, a revocation."""

    label: str
    age: int
    created_ms: int
    told: bool = False


@dataclass
class ControlChanges:
    """What the control database holds, compared with events as they are read."""

    changes: dict[str, Change] = field(default_factory=dict)
    things: dict[tuple[str, str], list[Thing]] = field(default_factory=dict)

    def add(self, kind: str, number: str, thing: Thing) -> None:
        """A thing under what tells of it; two revocations may be of one key."""
        self.things.setdefault((kind, number), []).append(thing)

    def take(self, canonical: bytes) -> None:
        """Takes up an event within a sound seal, when it is of a change."""
        changes = self.changes
        if (
            _ACTOR not in canonical
            and not any(found.decode() in changes for found in _ID.findall(canonical))
        ):
            return
        try:
            event = parse_json(canonical)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        change = changes.get(event["id"]) if isinstance(event.get("id"), str) else None
        if change is not None:
            if _says_the_same(change, event):
                change.same += 1
            else:
                change.differing += 1
        for told in _told_by(event):
            for thing in self.things.get(told, ()):
                thing.told = True

    def take_over(self, other: "ControlChanges") -> None:
        """Takes up what another process saw of the same rows."""
        for number, change in other.changes.items():
            self.changes[number].same += change.same
            self.changes[number].differing += change.differing
        for key, things in other.things.items():
            for own, thing in zip(self.things[key], things, strict=True):
                own.told = own.told or thing.told

    def judge(self, removed_before_ms: int | None, findings: Findings) -> list[str]:
        """Names what has no event, and returns notes. `removed_before_ms` is until when retention may have removed events."""
        young = twice = old = 0
        for change in self.changes.values():
            said = f"change {change.id} ({change.type})"
            if change.differing:
                findings.add("change_differs", f"{said}: its event and the outbox say different things")
            elif change.same:
                twice += change.same > 1
            elif change.drained_age is None:
                if change.age > LATE_SECONDS:
                    findings.add("change_waiting", f"{said} was made {change.age} s ago and never handed over")
                else:
                    young += 1
            elif change.drained_age > LATE_SECONDS:
                message = f"{said} was handed over {change.drained_age} s ago and has no audit event"
                findings.add("change_missing", message)
            else:
                young += 1
        for thing in (thing for things in self.things.values() for thing in things):
            if thing.told:
                continue
            if thing.age <= LATE_SECONDS:
                young += 1
            elif removed_before_ms is not None and thing.created_ms < removed_before_ms:
                old += 1
            else:
                message = f"{thing.label} stands in the control database and no audit event tells of it"
                findings.add("change_missing", message)
        notes = [f"{young} changes of the last minute have no event yet"] if young else []
        notes += [f"{twice} changes were handed over twice: same id, same content"] if twice else []
        notes += [f"{old} things are older than what retention left of the trail"] if old else []
        return notes

    def count(self) -> int:
        """How much is compared."""
        return len(self.changes) + sum(len(things) for things in self.things.values())


def read_control(tables: dict[str, BinaryIO]) -> ControlChanges:
    """Reads the rows of export-control.sql. Raises Failure."""
    control = ControlChanges()
    for number, line in enumerate(limited_lines("outbox", tables["outbox"]), 1):
        try:
            change = _parse_change(line)
        except ValueError as error:
            raise broken("outbox", number, str(error)) from error
        control.changes[change.id] = change
    for number, line in enumerate(limited_lines("things", tables["things"]), 1):
        try:
            kind, thing, label, created_ms, age = line.split(b"\t")
            control.add(kind.decode(), decode_text(thing) or "", Thing(decode_text(label) or "", int(age), int(created_ms)))
        except ValueError as error:
            raise broken("things", number, str(error)) from error
    return control


def _parse_change(line: bytes) -> Change:
    event_id, age, drained_age, text = line.split(b"\t")
    event = parse_json((decode_text(text) or "").encode())
    if not isinstance(event, dict):
        raise ValueError("no event")
    drained = decode_text(drained_age)
    return Change(
        event_id.decode(), str(event.get("type")), int(age), None if drained is None else int(drained),
        event.get("at_ms"), _canonical(event.get("subject")), _canonical(clean(event.get("data"))),
    )  # fmt: skip


def _says_the_same(change: Change, event: dict) -> bool:
    return (
        event.get("type") == change.type
        and (change.at_ms is None or milliseconds(str(event.get("at"))) == change.at_ms)
        and _canonical(event.get("subject")) == change.subject
        and _canonical(event.get("data")) == change.data
    )


def _canonical(value: Json) -> bytes | None:
    try:
        return canonical_bytes(value)
    except (ValueError, RecursionError):
        return None


def _told_by(event: dict) -> list[tuple[str, str]]:
    """What things an event tells of, by kind and id."""
    subject, data = _object(event, "subject"), _object(event, "data")
    match event.get("type"):
        case "connection.created":
            told = [("connection", subject.get("connection_id"))]
        case "connection.deleted":
            told = [("removed_connection", subject.get("connection_id"))]
        case "auth_rule.changed":
            told = [("auth_rule", _object(data, "after").get("id"))]
        case "key.created":
            told = [("key", subject.get("key_id"))]
        case "key.rotated":
            told = [("key", subject.get("key_id")), ("revoked_key", _object(data, "before").get("key_id"))]
        case "key.revoked":
            told = [("revoked_key", subject.get("key_id"))]
        case "identity.revoked":
            told = [("revoked_agent", data.get("revocation_id"))]
        case "admin.action" if data.get("action") == "token.created":
            told = [("token", _object(data, "detail").get("token_id"))]
        case "admin.action" if data.get("action") == "revocation.republished":
            told = [
                ("revoked_key", subject.get("key_id")),
                ("revoked_agent", _object(data, "detail").get("revocation_id")),
                ("removed_connection", subject.get("connection_id") if "key_id" not in subject else None),
            ]
        case _:
            told = []
    return [(kind, thing) for kind, thing in told if isinstance(thing, str)]


def _object(parent: dict, name: str) -> dict:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
