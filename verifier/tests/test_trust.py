import unittest

from sallyport_verify.canonical import canonical_bytes, parse_json
from sallyport_verify.failure import Failure
from sallyport_verify.heads import read_head
from sallyport_verify.trust import read_trust

from .page import seal_vector, trust_vector

SIGNER = "s_34750f98bd59fcfc946d"


class Trust(unittest.TestCase):
    def setUp(self) -> None:
        self.text = trust_vector()
        self.root = parse_json(self.text)["root"]

    def test_the_file_of_the_page_is_believed(self) -> None:
        signers = read_trust(self.text, self.root).signers
        self.assertEqual([*signers], [SIGNER])
        self.assertIsNone(signers[SIGNER].revoked_at)
        self.assertEqual(parse_json(seal_vector()["canonical"].encode())["signer"], SIGNER)

    def test_white_space_means_nothing(self) -> None:
        self.assertEqual([*read_trust(self.text.replace(b",", b" ,\n"), None).signers], [SIGNER])

    def test_anything_edited_is_refused(self) -> None:
        for old, new in (
            (b'"agent-1"', b'"agent-2"'),
            (b'"revoked_at":null', b'"revoked_at":"2026-01-02T03:04:05.678Z"'),
            (b'"sequence":2', b'"sequence":3'),
            (b'"v":1', b'"v":2'),
            (b'"kind":"agent"', b'"kind":"relay"'),
            (SIGNER.encode(), b"s_00000000000000000000"),
        ):
            self.assertIn(old, self.text)
            with self.assertRaises(Failure, msg=new) as raised:
                read_trust(self.text.replace(old, new), None)
            self.assertEqual(raised.exception.code, "ERR_AUDIT_TRUST_INVALID")

    def test_another_root_is_refused(self) -> None:
        with self.assertRaises(Failure):
            read_trust(self.text, "ab" * 32)

    def test_what_is_no_trust_file_is_refused(self) -> None:
        for data in (b"", b"{}", b"[]", b'{"v":1}', b"\xff"):
            with self.assertRaises(Failure):
                read_trust(data, None)


class Heads(unittest.TestCase):
    def head(self, acknowledged: object) -> bytes:
        return canonical_bytes({"v": 1, "acknowledged": acknowledged})

    def test_an_acknowledged_batch(self) -> None:
        head = read_head("head.json", self.head({"chain": "c", "batch": 3, "seal": "ab" * 32}))
        assert head is not None
        self.assertEqual((head.chain, head.batch, head.seal), ("c", 3, b"\xab" * 32))

    def test_nothing_acknowledged_is_no_anchor(self) -> None:
        self.assertIsNone(read_head("head.json", self.head(None)))
        self.assertIsNone(read_head("head.json", self.head({"chain": "c", "batch": 0})))

    def test_what_is_no_head_is_refused(self) -> None:
        for data in (b"x", b"{}", self.head([]), self.head({"chain": "c", "batch": True}), self.head({"batch": 1})):
            with self.assertRaises(Failure):
                read_head("head.json", data)


if __name__ == "__main__":
    unittest.main()
