"""The page of the package; everything else is in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup


def _linked(match: re.Match[str]) -> str:
    """A link into the repository as text: on the page of a package it would lead nowhere."""
    text, target = match[1].strip("`"), match[2]
    return f"`{target}`" if text == target else f"{text} (`{target}`)"


README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")

setup(
    long_description=re.sub(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)", _linked, README),
    long_description_content_type="text/markdown",
)
