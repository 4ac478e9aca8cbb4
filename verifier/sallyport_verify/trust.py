"""The trust file: which signers to believe, vouched for by the audit root."""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .canonical import canonical_bytes, parse_json
from .failure import Failure
from .moment import is_time

TRUST_TAG = b"sallyport.audit.trust.v1\n"
OPERATOR = "operator"
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_SEAL_NOTHING = (OPERATOR, "exporter")
KEYS_REMEMBERED = 1024


@dataclass(frozen=True)
class Signer:
    """One audit key that the trust file vouches for, as raw bytes; `revoked_at` is RFC 3339 text or None."""

    public_key: bytes
    name: str
    revoked_at: str | None

    def revoked_before(self, time: str) -> bool:
        """Whether the key was not to be believed any more at that time."""
        return self.revoked_at is not None and self.revoked_at <= time


@dataclass(frozen=True)
class Trust:
    """By id, signers of seals, and operators, who sign requests for retention; exporters are neither."""

    signers: dict[str, Signer]
    operators: dict[str, Signer]


def signer_id(public_key: bytes) -> str:
    """Id of a signer: `s_` and 20 hex digits of the digest of its raw public key."""
    return f"s_{sha256(public_key).hexdigest()[:20]}"


@lru_cache(maxsize=KEYS_REMEMBERED)
def _key(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def signature_holds(public_key: bytes, signature: bytes, digest: bytes) -> bool:
    """Whether `signature` is one of the key over `digest`."""
    try:
        _key(public_key).verify(signature, digest)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_trust(data: bytes, root: str | None) -> Trust:
    """Raises Failure when the root did not sign this file, or it is not that of `root` (hex)."""
    document = _parse(data)
    if root is not None and document["root"] != root.lower():
        raise _invalid(f"it is of the root {document['root']}, not of {root}")
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    try:
        digest = sha256(TRUST_TAG + canonical_bytes(unsigned)).digest()
    except (ValueError, RecursionError) as error:
        raise _invalid("it has no canonical form") from error
    if not signature_holds(bytes.fromhex(document["root"]), bytes.fromhex(document["signature"]), digest):
        raise _invalid("its signature is not one of its root")
    trust = Trust({}, {})
    seen = set()
    for entry in document["signers"]:
        signer, raw = entry["signer"], bytes.fromhex(entry["public_key"])
        if signer != signer_id(raw):
            raise _invalid(f"{signer} is not the id of its public key")
        if signer in seen:
            raise _invalid(f"{signer} is there twice")
        seen.add(signer)
        vouched = Signer(raw, entry["name"], entry["revoked_at"])
        if entry["kind"] == OPERATOR:
            trust.operators[signer] = vouched
        elif entry["kind"] not in _SEAL_NOTHING:
            trust.signers[signer] = vouched
    return trust


def _parse(data: bytes) -> dict:
    try:
        document = parse_json(data)
    except ValueError as error:
        raise _invalid(f"it is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("v") != 1:
        raise _invalid("it is not of version 1")
    if not _matches(_KEY, document.get("root")) or not _matches(_SIGNATURE, document.get("signature")):
        raise _invalid("root or signature is not hex of its length")
    signers = document.get("signers")
    if not isinstance(signers, list) or not all(_is_entry(entry) for entry in signers):
        raise _invalid("a signer is not {signer, public_key, kind, name, added_at, revoked_at}")
    return document


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not _matches(_KEY, entry.get("public_key")):
        return False
    revoked_at = entry.get("revoked_at")
    texts = all(isinstance(entry.get(name), str) for name in ("signer", "kind", "name"))
    return texts and (revoked_at is None or is_time(revoked_at))


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _invalid(why: str) -> Failure:
    return Failure("ERR_AUDIT_TRUST_INVALID", f"the trust file is not to be believed: {why}")
