"""Rules for JSON values read from files that anyone may have edited.

A rule is called with a value and the place where it stands, and raises :class:`SchemaError` with
one line that names the place and what would be right there. Every rule has bounds, so that what
passes is finite, shallow and of a known type. Needs the standard library alone, as devices do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Json",
    "ListOf",
    "MapOf",
    "Nullable",
    "Real",
    "Record",
    "Rule",
    "SchemaError",
    "Text",
    "TextOr",
    "Whole",
    "shown",
]

_SHOWN = 60


class SchemaError(ValueError):
    """A value breaks a rule; the message is one line of bounded length."""


class Rule(Protocol):
    """What a value must be."""

    def __call__(self, value: object, where: str) -> None:
        """Raise SchemaError if ``value``, found at ``where``, breaks the rule."""


@dataclass(frozen=True)
class Text:
    """Text of up to ``most`` characters; the whole matches ``pattern``, which ``what`` names."""

    most: int
    pattern: str = ""
    what: str = "text"

    def __call__(self, value: object, where: str) -> None:
        if not isinstance(value, str):
            raise _wrong(where, value, self.what)
        if len(value) > self.most:
            raise _wrong(where, value, f"at most {self.most} characters, not {len(value)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise _wrong(where, value, self.what)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int

    def __call__(self, value: object, where: str) -> None:
        # JSON's true is no number, though Python's True is one.
        if type(value) is not int or not self.low <= value <= self.high:
            raise _wrong(where, value, f"a whole number from {self.low} to {self.high}")


@dataclass(frozen=True)
class Real:
    """A number from ``low`` to ``high``, which NaN is not."""

    low: float
    high: float

    def __call__(self, value: object, where: str) -> None:
        if type(value) not in (int, float) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise _wrong(where, value, f"a number from {self.low:g} to {self.high:g}")


@dataclass(frozen=True)
class Nullable:
    """``null``, or what another rule allows."""

    rule: Rule

    def __call__(self, value: object, where: str) -> None:
        if value is not None:
            self.rule(value, where)


@dataclass(frozen=True)
class TextOr:
    """A text that one rule allows, or another value that the other one does."""

    text: Text
    other: Rule

    def __call__(self, value: object, where: str) -> None:
        (self.text if isinstance(value, str) else self.other)(value, where)


@dataclass(frozen=True)
class ListOf:
    """``least`` to ``most`` values of one kind."""

    rule: Rule
    most: int
    least: int = 0

    def __call__(self, value: object, where: str) -> None:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise _wrong(where, value, f"a list of {self.least} to {self.most} entries")
        for index, item in enumerate(value):
            self.rule(item, f"{where}[{index}]")


@dataclass(frozen=True)
class MapOf:
    """Up to ``most`` values of one kind, under names of one kind."""

    name: Text
    rule: Rule
    most: int

    def __call__(self, value: object, where: str) -> None:
        if not isinstance(value, dict) or len(value) > self.most:
            raise _wrong(where, value, f"an object of up to {self.most} entries")
        for name, item in value.items():
            self.name(name, f"a name in {where}")
            self.rule(item, f"{where}.{shown(name, 30)}")


@dataclass(frozen=True)
class Record:
    """An object of exactly these fields. The outermost one stands at the place ``""``."""

    fields: Mapping[str, Rule]

    def __call__(self, value: object, where: str) -> None:
        place = where or "it"
        if not isinstance(value, dict):
            raise _wrong(place, value, f"an object of {len(self.fields)} fields")
        if missing := [name for name in self.fields if name not in value]:
            raise SchemaError(f"{place} lacks the field {missing[0]!r}")
        if unknown := [name for name in value if name not in self.fields]:
            raise SchemaError(f"{place} has a field '{shown(unknown[0])}', which is not known")
        for name, rule in self.fields.items():
            rule(value[name], f"{where}.{name}" if where else name)


@dataclass(frozen=True)
class Json:
    """Any JSON value of up to ``depth`` levels, each of up to ``most`` entries or characters."""

    depth: int
    most: int

    def __call__(self, value: object, where: str) -> None:
        if isinstance(value, dict | list) and self.depth == 0:
            raise SchemaError(f"{where} is nested too deep")
        if isinstance(value, dict):
            MapOf(Text(self.most), Json(self.depth - 1, self.most), self.most)(value, where)
        elif isinstance(value, list):
            ListOf(Json(self.depth - 1, self.most), self.most)(value, where)
        elif isinstance(value, str):
            Text(self.most)(value, where)
        elif value is not None and not isinstance(value, bool):
            Real(-1e20, 1e20)(value, where)


def shown(text: str, most: int = _SHOWN) -> str:
    """Return a text of anyone's as people may see it: control characters escaped, the end cut."""
    # A lone surrogate is not printable either: no encoding and no font takes one.
    letters = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[: most + 1]
    )
    escaped = "".join(letters)
    return escaped if len(escaped) <= most else f"{escaped[: most - 3]}..."


def _wrong(where: str, value: object, wanted: str) -> SchemaError:
    if isinstance(value, list | dict):
        found = f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    else:
        found = shown(json.dumps(value, ensure_ascii=False, default=repr))
    return SchemaError(f"{where} is {found}; it must be {wanted}")
