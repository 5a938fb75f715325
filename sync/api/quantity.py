"""Amounts of resources: "500m", "1Gi", "1e3" (apimachinery's `resource.Quantity`)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import NamedTuple

_FORM = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_NANO = Decimal("1e-9")
_WIDE = Context(prec=400, rounding=ROUND_CEILING)
_MOST = Decimal(2**63 - 1)
_LONGEST = 400
"""Characters. Upstream has no limit; nobody writes a number of more digits than a float has."""

MISMATCH = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class Quantity(NamedTuple):
    """An amount, and how it was written: decimal suffixes, binary ones, or an exponent."""

    value: Decimal
    form: str

    def __str__(self) -> str:
        """The canonical text: the largest suffix that leaves an integer."""
        value, form = self.value, self.form
        if not value:
            return "0"
        integral = value == value.to_integral_value()
        if form == "binary" and (abs(value) < 1024 or not integral):
            form = "decimal"
        if form == "binary":
            return _binary(int(value))
        return _decimal(value, exponent=form == "exponent")


def parse(text: str) -> Quantity:
    """Raises ValueError with upstream's text. Finer than a nano is rounded up; what int64 can't hold is cut to it."""
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if not found:
        raise ValueError(MISMATCH)
    sign, digits, suffix, exponent = found.groups()
    value = Decimal(digits)
    if suffix in _BINARY:
        form, value = "binary", value * 1024 ** _BINARY[suffix]
    elif exponent is not None:
        form, value = "exponent", _WIDE.scaleb(value, int(exponent))
    else:
        form, value = "decimal", _WIDE.scaleb(value, _DECIMAL[suffix or ""])
    value = min(value, _MOST)
    if value % _NANO:
        value = _WIDE.quantize(value, _NANO)
    return Quantity(-value if sign == "-" else value, form)


def _binary(value: int) -> str:
    power = 0
    while power < 6 and value % 1024 == 0:
        value, power = value // 1024, power + 1
    return f"{value}{'KMGTPE'[power - 1]}i" if power else str(value)


def _decimal(value: Decimal, *, exponent: bool) -> str:
    power = -9
    whole = int(_WIDE.scaleb(value, 9))
    while whole % 1000 == 0 and power < 18:
        whole, power = whole // 1000, power + 3
    if exponent:
        return f"{whole}e{power}" if power else str(whole)
    return f"{whole}{_BY_EXPONENT[power]}"
