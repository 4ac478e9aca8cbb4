"""The queries, taken from the scripts of psql, so that a database and a directory are read the same way."""

import re
from functools import cache
from pathlib import Path

AUDIT_SCRIPT = "export.sql"
CONTROL_SCRIPT = "export-control.sql"
_COPY = re.compile(r"^\\copy \((?P<query>.+)\) to '(?P<table>[a-z]+)\.copy'$", re.MULTILINE)
_SETTING = re.compile(r"^set [^;]+;$", re.MULTILINE)
_NARROW = "select chain_id, seq, recorded_at, canonical from ({query}) as events"


@cache
def _read_script(name: str) -> str:
    location = Path(__file__).parent.parent
    if location.is_file():
        import zipfile

        with zipfile.ZipFile(location) as archive:
            return archive.read(name).decode()
    return (location / name).read_text(encoding="utf-8")


def queries(script: str, columns: bool) -> dict[str, str]:
    """Query by table; without `columns`, events come without what is only derived from them."""
    found = {match["table"]: match["query"] for match in _COPY.finditer(_read_script(script))}
    if not columns and "events" in found:
        found["events"] = _NARROW.format(query=found["events"])
    return found


def settings() -> str:
    """Statements that fix how values are written."""
    return "\n".join(_SETTING.findall(_read_script(AUDIT_SCRIPT)))
