"""The proof that one event is in the trail, checked without a database."""

import re

from .canonical import parse_json
from .failure import Failure
from .findings import Findings
from .merkle import leaf_hash, node_hash
from .seal import LARGEST_COUNT, Seal, read_seal
from .trust import Trust, signature_holds

_MEMBERS = frozenset("v event seq path seal signature".split())
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_LONGEST_PATH = 53


def check_proof(file: str, data: bytes, trust: Trust | None) -> dict:
    """The report on a proof. Raises Failure when the file is none."""
    proof = _parse(file, data)
    findings = Findings()
    seal = read_seal(proof["seal"].encode())
    if trust is None:
        findings.add("no_anchor", "no trust file was given: anybody can make such a proof")
    if seal is None:
        findings.add("seal_altered", "the canonical bytes are no seal", None, None, proof["seq"])
    else:
        if trust is not None:
            _check_signature(seal, bytes.fromhex(proof["signature"]), trust, findings)
        _check_event(proof, seal, findings)
    return {
        "ok": not findings.listed,
        "chain_id": None if seal is None else seal.chain,
        "batch_no": None if seal is None else seal.batch,
        "seq": proof["seq"],
        "signer": None if seal is None else seal.signer,
        "sealed_at": None if seal is None else seal.time,
        "findings": findings.listed,
        "event": proof["event"],
    }


def root_of_path(leaf: bytes, index: int, count: int, path: list[bytes]) -> bytes | None:
    """The root that a path leads to, or None when it is not as long as it must be."""
    node, left = leaf, list(path)
    while count > 1:
        if index ^ 1 < count:
            if not left:
                return None
            sibling = left.pop(0)
            node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index, count = index >> 1, (count + 1) >> 1
    return None if left else node


def _check_signature(seal: Seal, signature: bytes, trust: Trust, findings: Findings) -> None:
    place = (seal.chain, seal.batch)
    signer = trust.signers.get(seal.signer)
    if signer is None:
        findings.add("signer_unknown", f"the trust file does not know signer {seal.signer}", *place)
    elif not signature_holds(signer.public_key, signature, seal.digest):
        findings.add("signature_invalid", f"the signature is not one of {seal.signer}", *place)
    elif signer.revoked_before(seal.time):
        findings.add("signer_revoked", f"signer {seal.signer} was revoked at {signer.revoked_at}", *place)


def _check_event(proof: dict, seal: Seal, findings: Findings) -> None:
    place = (seal.chain, seal.batch)
    if seal.n != seal.last - seal.first + 1:
        findings.add("seal_altered", f"{seal.n} events do not fill the range", *place)
        return
    if not seal.first <= proof["seq"] <= seal.last:
        findings.add("event_altered", f"the seal covers events {seal.first} to {seal.last}", *place, proof["seq"])
        return
    leaf = leaf_hash(proof["event"].encode())
    path = [bytes.fromhex(digest) for digest in proof["path"]]
    root = root_of_path(leaf, proof["seq"] - seal.first, seal.n, path)
    if root is None or root.hex() != seal.root:
        message = "event and path do not lead to the root that was sealed"
        findings.add("event_altered", message, *place, proof["seq"])


def _parse(file: str, data: bytes) -> dict:
    try:
        proof = parse_json(data)
    except ValueError as error:
        raise Failure("ERR_AUDIT_PROOF_INVALID", f"{file} is no JSON: {error}") from error
    if not isinstance(proof, dict) or proof.keys() != _MEMBERS or not _well_formed(proof):
        raise Failure("ERR_AUDIT_PROOF_INVALID", f"{file} is no proof of version 1")
    return proof


def _well_formed(proof: dict) -> bool:
    path = proof["path"]
    return (
        type(proof["v"]) is int
        and proof["v"] == 1
        and type(proof["seq"]) is int
        and 1 <= proof["seq"] <= LARGEST_COUNT
        and _is_text(proof["event"])
        and _is_text(proof["seal"])
        and isinstance(path, list)
        and len(path) <= _LONGEST_PATH
        and all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in path)
        and isinstance(proof["signature"], str)
        and _SIGNATURE.fullmatch(proof["signature"]) is not None
    )


def _is_text(value: object) -> bool:
    """Whether a value is text that has bytes: no lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
