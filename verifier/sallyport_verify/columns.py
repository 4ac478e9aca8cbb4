"""The columns of an event, derived from its canonical bytes (audit-format.md, "Columns")."""

import json
import re
from collections.abc import Callable

from . import kinds
from .canonical import parse_json
from .copy_text import decode_text
from .event_types import EVENT_TYPES
from .failure import Failure

SUBJECT_KINDS: dict[str, Callable[[object], str | None]] = {
    **dict.fromkeys(
        "actor agent auth_rule carrier connection connection_id gateway identity_id key_id key_kind key_slot "
        "listener_key_id listener_principal login_id namespace own_spki peer_spki principal proved_by relay "
        "stream_kind target_host".split(),
        kinds.text,
    ),
    **dict.fromkeys(("client_addr", "source_addr", "target_addr"), kinds.address),
    **dict.fromkeys(("client_port", "target_port"), kinds.port),
    **dict.fromkeys(("link_id", "stream_id"), kinds.uuid),
    "attempt": kinds.int32,
    "stream_no": kinds.bigint,
}
DATA_KINDS = {
    "decided_by": kinds.text,
    "managed_sha256": kinds.text,
    "shadow": kinds.boolean,
    "eval_us": kinds.number,
    "dial_ms": kinds.number,
    "duration_ms": kinds.number,
    "bytes_up": kinds.bigint,
    "bytes_down": kinds.bigint,
}
COLUMNS = (
    "event_id occurred_at schema_version type class_uid activity_id action disposition severity origin namespace agent "
    "local_at agent_zone relay gateway connection connection_id principal auth_rule key_id key_slot key_kind "
    "identity_id proved_by listener_principal listener_key_id stream_id stream_no stream_kind attempt link_id carrier "
    "own_spki peer_spki login_id site client_addr client_port source_addr target_host target_addr target_port "
    "decided_by policy_rule policy_rules reasons close_reason bundle_revision bundle_sequence bundle_sha256 "
    "managed_sha256 shadow eval_us dial_ms bytes_up bytes_down duration_ms actor projection_error"
).split()
"""In the order of export.sql."""
SITE_FIELD = COLUMNS.index("site")

_NOTHING: dict[str, str | None] = dict.fromkeys((*SUBJECT_KINDS, *DATA_KINDS, "site"))
"""The site is the chain's: what an event says of itself is not believed."""
_CLOSING = ("stream.", "link.", "publish.", "login.")
_NOT_PROJECTED = re.compile(r"sqlstate [0-9A-Z]{5}")
_SAME = {
    **dict.fromkeys(("client_addr", "source_addr", "target_addr"), kinds.same_address),
    **dict.fromkeys(("eval_us", "dial_ms", "duration_ms"), kinds.same_number),
    **dict.fromkeys(("policy_rules", "reasons"), kinds.same_list),
}


def differing_columns(canonical: bytes, fields: bytes, site: str | None = None) -> list[str]:
    """Names of columns that are not what the canonical bytes say, in the order of COLUMNS.

    `site` is that of an imported chain. Raises ValueError for fields that are no text, Failure for too few or too many.
    """
    expected = derive_columns(canonical)
    if site is not None and expected is not None:
        expected[SITE_FIELD] = site
    if expected is not None and _spelled(expected) == fields:
        return []
    columns = [decode_text(field) for field in fields.split(b"\t")]
    if len(columns) != len(COLUMNS):
        message = f"events have {len(columns)} columns, not {len(COLUMNS)}: written by another export.sql"
        raise Failure("ERR_AUDIT_DUMP_INVALID", message)
    if expected is None:
        return _differing_without_event(columns, site)
    return [
        name
        for name, column, wanted in zip(COLUMNS, columns, expected, strict=True)
        if column != wanted and not _same(name, column, wanted)
    ]


def _spelled(expected: list[str | None]) -> bytes | None:
    """The fields as they mostly are: when they are so to the byte, no column needs a look of its own.

    None when a value has a backslash, which COPY escapes: text `\\N` must not pass for a null.
    """
    spelled = "\t".join(["\\N" if value is None else value for value in expected])
    if spelled.count("\\") != expected.count(None):
        return None
    return spelled.encode("utf-8", "surrogatepass")


def derive_columns(canonical: bytes) -> list[str | None] | None:
    """Values in the order of COLUMNS as COPY writes them, or None when the bytes are no event."""
    try:
        event = parse_json(canonical)
    except ValueError:
        return None
    if not _is_event(event):
        return None
    origin, subject, data = (_object(event, name) for name in ("origin", "subject", "data"))
    values = _NOTHING | _envelope(event, origin)
    for members, known in ((subject, SUBJECT_KINDS), (data, DATA_KINDS)):
        for name, value in members.items():
            kind = known.get(name)
            if kind is not None:
                values[name] = kind(value)
    values |= _of_origin(origin, values)
    values |= _of_type(values["type"], data)
    values |= _of_decision(data)
    unfit = _object(event, "unfit")
    values["projection_error"] = ",".join(sorted(unfit)) if unfit else None
    return [values[name] for name in COLUMNS]


def _same(name: str, column: str | None, wanted: str | None) -> bool:
    compare = _SAME.get(name)
    return compare is not None and column is not None and wanted is not None and compare(column, wanted)


def _is_event(event: object) -> bool:
    return (
        isinstance(event, dict)
        and type(event.get("v")) is int
        and all(isinstance(event.get(name), str) for name in ("type", "id", "at", "chain"))
        and all(isinstance(event.get(name), dict) for name in ("origin", "subject", "data"))
        and kinds.uuid(event["id"]) is not None
        and kinds.uuid(event["chain"]) is not None
    )


def _differing_without_event(columns: list[str | None], site: str | None) -> list[str]:
    wanted = [site if name == "site" else None for name in COLUMNS[:-1]]
    compared = zip(COLUMNS[:-1], columns[:-1], wanted, strict=True)
    differing = [name for name, column, value in compared if column != value]
    error = columns[-1]
    kept_out = error is None or _NOT_PROJECTED.fullmatch(error) is not None
    return differing if kept_out else [*differing, "projection_error"]


def _object(parent: dict, name: str) -> dict:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _envelope(event: dict, origin: dict) -> dict[str, str | None]:
    return {
        "event_id": kinds.uuid(event.get("id")),
        "occurred_at": kinds.instant(event.get("at")),
        "local_at": kinds.time_of_day(event.get("local")),
        "agent_zone": kinds.text(origin.get("zone")),
        "schema_version": kinds.int32(event.get("v")),
        "type": kinds.text(event.get("type")),
    }


def _of_origin(origin: dict, values: dict[str, str | None]) -> dict[str, str | None]:
    kind, name = kinds.text(origin.get("kind")), kinds.text(origin.get("name"))
    return {
        "origin": None if kind is None or name is None else f"{kind}/{name}",
        "namespace": _first(values["namespace"], kinds.text(origin.get("namespace"))),
        "agent": _first(values["agent"], name if kind == "agent" else None),
        "relay": _first(values["relay"], name if kind == "relay" else None),
    }


def _of_type(event_type: str | None, data: dict) -> dict[str, str | None]:
    known = EVENT_TYPES.get(event_type or "")
    allow = data.get("allow")
    outcome = known[3] if known else (None, None)
    if isinstance(allow, bool):
        outcome = ("allowed", "allowed") if allow else ("denied", "blocked")
    closes = event_type is not None and (event_type.startswith(_CLOSING) or event_type == "unpublish")
    return {
        "class_uid": str(known[0]) if known else None,
        "activity_id": str(known[1]) if known else None,
        "severity": str(known[2]) if known else None,
        "action": outcome[0],
        "disposition": outcome[1],
        "close_reason": kinds.text(data.get("reason")) if closes else None,
    }


def _of_decision(data: dict) -> dict[str, str | None]:
    bundle = _object(data, "bundle")
    rules = data.get("rules")
    reasons = data.get("reasons")
    listed = None
    if isinstance(rules, dict):
        listed = [*_list(rules.get("publish")), *_list(rules.get("stream"))]
    codes = None
    if isinstance(reasons, list):
        codes = [reason.get("code") for reason in reasons if isinstance(reason, dict)]
    return {
        "policy_rule": kinds.text(data.get("rule")),
        "policy_rules": None if listed is None else _as_json(listed),
        "reasons": None if codes is None else _as_json(codes),
        "bundle_revision": kinds.text(bundle.get("revision")),
        "bundle_sequence": kinds.bigint(bundle.get("sequence")),
        "bundle_sha256": kinds.text(bundle.get("sha256")),
    }


def _first(value: str | None, otherwise: str | None) -> str | None:
    return otherwise if value is None else value


def _as_json(values: list) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _list(value: object) -> list:
    return value if isinstance(value, list) else []
