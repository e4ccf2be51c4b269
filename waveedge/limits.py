"""Values of options: what they may be, and bounds, checked before anything is allocated.

Imports the standard library alone: a mistyped option should be refused at once.
"""

from __future__ import annotations

import re

from waveedge.errors import UsageError

__all__ = [
    "LONGEST_NAME",
    "MOST_BATCHES",
    "MOST_MINUTES",
    "MOST_PIXELS",
    "check_minutes",
    "check_pixels",
    "parse_batches",
    "parse_count",
    "parse_settings",
    "parse_size",
]

MOST_PIXELS = 2**25
"""Pixels of one input: batch x height x width. An 8K picture has 33.2 million."""

MOST_BATCHES = 16
"""Batches of one list; how many images one may have is for the benchmark to say."""

LONGEST_NAME = 1000
"""Characters of a layer pattern, or of a setting and its value."""

MOST_MINUTES = 7 * 24 * 60
"""Of tuning: a week."""

_AT_MOST = f"At most {MOST_PIXELS:,} pixels in all (batch x height x width) are taken."


def parse_size(option: str, text: str) -> tuple[int, int]:
    """Return (height, width) in pixels of ``HxW``.

    >>> parse_size("--input-size", "256x512")
    (256, 512)

    Args:
        option: where the text stands, for the message.

    Raises:
        UsageError: it is something else, or more than :data:`MOST_PIXELS`.
    """
    match = re.fullmatch(r"0*([1-9][0-9]*)[xX]0*([1-9][0-9]*)", text.strip())
    if match is None:
        raise UsageError(
            f"{option} {_cut(text)!r} is not a height and a width in pixels, HxW",
            hint="For example: 256x512",
        )
    height, width = (_bounded(digits) for digits in match.groups())
    check_pixels(option, text, height * width)
    return height, width


def parse_count(option: str, text: str) -> int:
    """Return a number of at least 1 written in decimal digits.

    Raises:
        UsageError: it is something else, or more than :data:`MOST_PIXELS`.
    """
    match = re.fullmatch(r"0*([1-9][0-9]*)", text.strip())
    if match is None:
        raise UsageError(
            f"{option} {_cut(text)!r} is not a whole number of at least 1", hint="Try 1."
        )
    count = _bounded(match[1])
    check_pixels(option, text, count)
    return count


def parse_batches(option: str, text: str) -> tuple[int, ...]:
    """Return the batches of a list such as ``1,2,4,8``.

    >>> parse_batches("--batch", "1, 8")
    (1, 8)

    Raises:
        UsageError: it is something else, has one twice, or more than :data:`MOST_BATCHES`.
    """
    parts = text.split(",")
    batches = tuple(parse_count(option, part) for part in parts[: MOST_BATCHES + 1])
    if len(parts) > MOST_BATCHES or len(set(batches)) < len(batches):
        raise UsageError(
            f"{option} {_cut(text)!r} is no list of batches",
            hint=f"For example: 1,2,4,8. At most {MOST_BATCHES}, each once.",
        )
    return batches


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Return the pairs of ``--set KEY=VALUE``, given any number of times.

    Raises:
        UsageError: one is something else, too long, or given twice.
    """
    pairs: dict[str, str] = {}
    for setting in settings or []:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or not key:
            raise UsageError(
                f"--set {setting!r} is not KEY=VALUE", hint="For example: --set stride=1"
            )
        if len(setting) > LONGEST_NAME:
            raise UsageError(
                f"--set {setting[:40]}... is too long",
                hint=f"At most {LONGEST_NAME} characters are taken.",
            )
        if key in pairs:
            raise UsageError(f"--set {key} is given twice", hint="Give it once.")
        pairs[key] = value
    return pairs


def check_minutes(minutes: float) -> None:
    """Refuse a time to train for that is none, or more than :data:`MOST_MINUTES`.

    Raises:
        UsageError: so it is.
    """
    if not 0 < minutes <= MOST_MINUTES:  # not a number is none, either
        raise UsageError(
            f"{minutes:g} minutes are no time to train for",
            hint=f"Give more than 0, and at most {MOST_MINUTES:,}.",
        )


def check_pixels(option: str, text: str, pixels: int) -> None:
    """Refuse an input of more than :data:`MOST_PIXELS` pixels.

    Raises:
        UsageError: naming ``option`` and ``text``, what it was given.
    """
    if pixels > MOST_PIXELS:
        raise UsageError(f"{option} {_cut(text)} is too large", hint=_AT_MOST)


def _bounded(digits: str) -> int:
    """Convert digits to a number; ones that Python would refuse or take long over are "many"."""
    return int(digits) if len(digits) <= len(str(MOST_PIXELS)) else MOST_PIXELS + 1


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}... ({len(text)} characters)"
