import unittest

from sallyport_verify.canonical import is_canonical, parse_json
from sallyport_verify.columns import derive_columns
from sallyport_verify.deep_json import TOO_DEEP, parse_deep



class Deep(unittest.TestCase):
    def plain(self, text: str) -> object:
        return parse_deep(text, lambda token: parse_json(token.encode()))

    def test_without_recursion_the_same_is_read(self) -> None:
        for text in (
            '{"a":[1,0.5,"x\\"]",true,null,{}],"b":{"c":[[]]}}',
            "[]", "{}", " [ 1 , 2 ] ", '"x"', "1", '{"a":1,"a":2}', "[-0.5e-3]",
        ):  # fmt: skip
            self.assertEqual(self.plain(text), parse_json(text.encode()), text)

    def test_what_is_no_json_is_refused(self) -> None:
        for text in (
            "", "[", "]", "{", "}", "[1,]", "[,1]", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}', "[1 2]", "1 2", ":", ",", "[}",
            "{]", '{"a":1]', "[1}", '{"a":1 "b":2}', '{"a" 1}', "x", "[NaN]", '["\x01"]', '["\\x"]', "[01]", "[1.]", "--1",
            '{[]:1}', '["a":1]', "[]]", "nul", '"',
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                self.plain(text)

    def test_what_is_far_down_is_one_mark(self) -> None:
        depth = 200_000
        text = b'{"a":' + b"[" * depth + b"]" * depth + b',"b":1}'
        value = parse_json(text)
        assert isinstance(value, dict)
        self.assertEqual(value["b"], 1)
        inner = value["a"]
        while isinstance(inner, list):
            (inner,) = inner
        self.assertEqual(inner, TOO_DEEP)
        self.assertFalse(is_canonical(text, value))
        for cut in (text[:-1], text[: depth // 2], b"[" * depth):
            with self.assertRaises(ValueError):
                parse_json(cut)

    def test_an_event_is_one_however_deep_it_is(self) -> None:
        uuid = "01b00000-0000-7000-8000-00000000000c"
        deep = "[" * 100_000 + "]" * 100_000
        event = (
            f'{{"at":"x","chain":"{uuid}","data":{{"x":{deep},"rule":"r"}},"id":"{uuid}","origin":{{}},"subject":{{}},'
            '"type":"t","v":1}'
        )
        columns = derive_columns(event.encode())
        assert columns is not None
        self.assertIn("r", columns)


class Sizes(unittest.TestCase):
    """Each of these would take hours if time grew with the square of the bytes."""

    def test_numbers_of_millions_of_digits_are_read_in_time(self) -> None:
        self.assertEqual(parse_json(b"9" * 8_000_000), float("inf"))
        self.assertEqual(parse_json(b"1" + b"0" * 300), 10**300)
        self.assertEqual(parse_json(b"0." + b"0" * 8_000_000 + b"1"), 0.0)

    def test_text_without_an_end_is_refused_in_time(self) -> None:
        for data in (b'"' + b"\\" * 8_000_001, b'["' * 500_000, b'{"a":' * 500_000, b"[" * 4_000_000):
            with self.assertRaises(ValueError):
                parse_json(data)


if __name__ == "__main__":
    unittest.main()
