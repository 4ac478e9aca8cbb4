"""Numbers as ECMAScript writes them (ECMA-262, Number::toString), which RFC 8785 section 3.2.2.3 prescribes."""

import math

EXACT_INTEGER_LIMIT = 2**53


def format_number(value: int | float) -> str:
    """The only text of a number in canonical JSON.

    Raises ValueError for what JSON cannot hold: infinities, not-a-number, and integers beyond a double.
    """
    if isinstance(value, int):
        if -EXACT_INTEGER_LIMIT < value < EXACT_INTEGER_LIMIT:
            return str(value)
        try:
            value = float(value)
        except OverflowError as error:
            raise ValueError("a number is larger than a double") from error
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    digits, point = _shortest_digits(abs(value))
    return sign + _place_point(digits, point)


def _shortest_digits(value: float) -> tuple[str, int]:
    """The fewest digits that read back as `value`, and the position of the decimal point behind the first of them."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + (int(exponent) if exponent else 0)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    return stripped.rstrip("0"), point


def _place_point(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    exponent = point - 1
    mantissa = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent >= 0 else '-'}{abs(exponent)}"
