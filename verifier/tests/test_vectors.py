import unittest
from hashlib import sha256

from sallyport_verify.canonical import is_canonical, parse_json
from sallyport_verify.columns import COLUMNS, derive_columns, differing_columns
from sallyport_verify.event_types import EVENT_TYPES
from sallyport_verify.merkle import leaf_hash, merkle_root
from sallyport_verify.proof import check_proof
from sallyport_verify.seal import read_seal
from sallyport_verify.trust import read_trust, signature_holds, signer_id

from .page import PAGE, event_vectors, proof_vector, seal_vector, trust_vector


def split_root(leaves: list[bytes]) -> bytes:
    """The tree as RFC 6962 words it: split at the largest power of two below the count."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + split_root(leaves[:split]) + split_root(leaves[split:])).digest()


class Events(unittest.TestCase):
    def test_the_page_has_a_vector_for_every_type(self) -> None:
        self.assertEqual([vector.type for vector in event_vectors()], [*EVENT_TYPES])

    def test_every_vector_is_canonical_and_has_its_leaf(self) -> None:
        for vector in event_vectors():
            with self.subTest(vector.type):
                self.assertTrue(is_canonical(vector.canonical, parse_json(vector.canonical)))
                self.assertEqual(leaf_hash(vector.canonical), vector.leaf)

    def test_every_type_has_the_classes_of_the_page(self) -> None:
        for vector in event_vectors():
            class_uid, activity_id, severity, outcome = EVENT_TYPES[vector.type]
            said = (vector.class_uid, vector.activity_id, vector.severity, vector.action, vector.disposition)
            self.assertEqual((str(class_uid), str(activity_id), str(severity), *outcome), said, vector.type)

    def test_columns_of_a_decision(self) -> None:
        (decision,) = [vector for vector in event_vectors() if vector.type == "stream.decision"]
        columns = dict(zip(COLUMNS, derive_columns(decision.canonical) or [], strict=True))
        expected = {
            "occurred_at": "2026-01-02 03:04:05.678+00",
            "local_at": "2026-01-02 04:04:05.678",
            "origin": "agent/agent-1",
            "namespace": "relay.example.com",
            "agent": "agent-1",
            "relay": None,
            "action": "allowed",
            "disposition": "allowed",
            "policy_rule": "orders-app",
            "policy_rules": '["orders-publish","orders-app"]',
            "reasons": "[]",
            "shadow": "f",
            "eval_us": "44.5",
            "stream_no": "1",
            "close_reason": None,
            "projection_error": None,
        }
        self.assertEqual({name: columns[name] for name in expected}, expected)

    def test_columns_are_compared_through_the_escapes_of_copy(self) -> None:
        (decision,) = [vector for vector in event_vectors() if vector.type == "stream.decision"]

        def fields(change: dict[str, bytes]) -> bytes:
            values = dict(zip(COLUMNS, derive_columns(decision.canonical) or [], strict=True))
            written = {name: b"\\N" if value is None else value.encode() for name, value in values.items()}
            return b"\t".join((written | change).values())

        self.assertEqual(differing_columns(decision.canonical, fields({})), [])
        self.assertEqual(differing_columns(decision.canonical, fields({"eval_us": b"4.45e+01"})), [])
        self.assertEqual(differing_columns(decision.canonical, fields({"principal": b"eve"})), ["principal"])
        self.assertEqual(differing_columns(decision.canonical, fields({"relay": b"eve"})), ["relay"])
        backslash = decision.canonical.replace(b'"principal":"orders-app"', b'"principal":"\\\\N"')
        self.assertEqual(differing_columns(backslash, fields({"principal": b"\\N"})), ["principal"])
        self.assertEqual(differing_columns(backslash, fields({"principal": b"\\\\N"})), [])
        tab = decision.canonical.replace(b'"principal":"orders-app"', b'"principal":"a\\tb"')
        self.assertEqual(differing_columns(tab, fields({"principal": b"a\\tb"})), [])

    def test_what_is_no_object_has_no_columns(self) -> None:
        for data in (b"x", b"[]", b"\xff", b"1"):
            self.assertIsNone(derive_columns(data))


class Seals(unittest.TestCase):
    def test_the_three_leaves_have_the_root_of_the_page(self) -> None:
        leaves = [vector.leaf for vector in event_vectors()[:2]]
        (clock_step,) = [vector.leaf for vector in event_vectors() if vector.type == "agent.clock_step"]
        root = merkle_root([*leaves, clock_step]).hex()
        self.assertIn(f"the root `{root}`", PAGE)

    def test_joining_level_by_level_is_the_tree_of_the_rfc(self) -> None:
        leaves = [leaf_hash(str(number).encode()) for number in range(70)]
        for count in range(1, len(leaves) + 1):
            self.assertEqual(merkle_root(leaves[:count]), split_root(leaves[:count]), count)
        self.assertIn(f"`{merkle_root([]).hex()}`", PAGE)

    def test_the_seal_of_the_page(self) -> None:
        vector = seal_vector()
        canonical = vector["canonical"].encode()
        seal = read_seal(canonical)
        assert seal is not None
        public_key = bytes.fromhex(vector["public_key"])
        signature = bytes.fromhex(vector["signature"])
        self.assertEqual(seal.digest.hex(), vector["digest"])
        self.assertEqual(seal.signer, signer_id(public_key))
        self.assertTrue(signature_holds(public_key, signature, seal.digest))
        self.assertFalse(signature_holds(public_key, signature, sha256(b"").digest()))
        self.assertFalse(signature_holds(public_key, signature[:-1], seal.digest))

    def test_the_proof_of_the_page(self) -> None:
        trust = read_trust(trust_vector(), None)
        self.assertEqual(check_proof("the page", proof_vector(), trust)["findings"], [])
        moved = proof_vector().replace(b'"seq":2', b'"seq":3')
        self.assertEqual([found["kind"] for found in check_proof("it", moved, trust)["findings"]], ["event_altered"])

    def test_what_is_no_seal(self) -> None:
        text = seal_vector()["canonical"]
        for old, new in (
            ('"v":1', '"v":2'),
            ('"v":1', '"v":true'),
            ('"n":3', '"n":3.0'),
            ('"n":3', '"n":-3'),
            ('"final":false', '"final":0'),
            ('"dropped":0', '"dropped":0,"dropped":0'),
            (',"v":1', ""),
            (',"v":1', ',"v":1,"w":1'),
            ('"alg":"Ed25519"', '"alg":"none"'),
            (":05.928Z", ":05.928+00:00"),
            ('{"alg"', '{ "alg"'),
        ):
            self.assertIn(old, text)
            self.assertIsNone(read_seal(text.replace(old, new).encode()), new)
        self.assertIsNotNone(read_seal(text.encode()))


if __name__ == "__main__":
    unittest.main()
