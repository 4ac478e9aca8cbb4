import struct
import unittest

from sallyport_verify.canonical import canonical_bytes, is_canonical, parse_json
from sallyport_verify.number import format_number

NUMBERS = {
    # RFC 8785, appendix B: bits of a double and its only text.
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "becbf647612f3696": "-0.0000033333333333333333",
}


class Numbers(unittest.TestCase):
    def test_every_double_has_the_text_of_the_rfc(self) -> None:
        for bits, text in NUMBERS.items():
            (value,) = struct.unpack(">d", bytes.fromhex(bits))
            self.assertEqual(format_number(value), text, bits)

    def test_integers_beyond_exactness_are_doubles(self) -> None:
        self.assertEqual(format_number(2**53 + 1), "9007199254740992")
        self.assertEqual(format_number(10**22), "1e+22")

    def test_what_json_cannot_hold_is_refused(self) -> None:
        for value in (float("inf"), float("nan"), 10**400):
            with self.assertRaises(ValueError):
                format_number(value)


class Canonical(unittest.TestCase):
    def test_names_are_sorted_by_utf_16_units(self) -> None:
        value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
        self.assertEqual([*parse_json(canonical_bytes(value))], ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"])

    def test_strings_are_escaped_as_little_as_possible(self) -> None:
        self.assertEqual(canonical_bytes('\u20ac$\x0f\nA\'B"\\\\"/\x7f').decode(), '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f"')

    def test_only_one_text_is_canonical(self) -> None:
        canonical = b'{"a":[1,0.5,"x",true,null],"b":{}}'
        self.assertTrue(is_canonical(canonical, parse_json(canonical)))
        for other in (
            b'{ "a":[1,0.5,"x",true,null],"b":{}}',
            b'{"b":{},"a":[1,0.5,"x",true,null]}',
            b'{"a":[1.0,0.5,"x",true,null],"b":{}}',
            b'{"a":[1,5e-1,"x",true,null],"b":{}}',
            b'{"a":[1,0.5,"\\u0078",true,null],"b":{}}',
            b'{"a":1,"a":[1,0.5,"x",true,null],"b":{}}',
        ):
            self.assertFalse(is_canonical(other, parse_json(other)), other)

    def test_what_is_no_json_is_refused(self) -> None:
        for data in (b"NaN", b'{"a":Infinity}', b"\xff", b'{"a":1', b"[" * 100_000):
            with self.assertRaises(ValueError):
                parse_json(data)

    def test_a_lone_surrogate_has_no_canonical_form(self) -> None:
        self.assertFalse(is_canonical(b'"\\ud800"', parse_json(b'"\\ud800"')))


if __name__ == "__main__":
    unittest.main()
