"""Facts are read from files that may be missing, unreadable, huge or strange."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from waveedge.runtime.system_files import SystemFiles


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _huge(path: Path) -> None:
    with path.open("wb") as file:  # sparse: it takes no space
        file.truncate(1 << 40)


STRANGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": _folder,
    "a FIFO": os.mkfifo,
    "a link to itself": _loop,
    "huge": _huge,
    "empty": lambda path: path.write_bytes(b""),
    "zero bytes": lambda path: path.write_bytes(bytes(40)),
    "control characters": lambda path: path.write_bytes(b"a\x1b[31mb"),
    "lines": lambda path: path.write_bytes(b"1\n2\n"),
    "a line too long": lambda path: path.write_bytes(b"1" * 300),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_a_strange_file_says_nothing(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "fact")
    files = SystemFiles(tmp_path)
    assert files.line("fact") is None
    assert files.number("fact") is None
    assert files.fields("fact") == {}


def test_what_a_file_says(tmp_path: Path) -> None:
    files = SystemFiles(tmp_path)
    for text, line, number in [
        ("NVIDIA Orin\0", "NVIDIA Orin", None),
        ("  1728000\n", "1728000", 1728000),
        ("-40\n", "-40", -40),
        ("1.5\n", "1.5", None),
        ("\u0663\n", "\u0663", None),
    ]:
        (tmp_path / "fact").write_text(text)
        assert (files.line("fact"), files.number("fact")) == (line, number)
    (tmp_path / "fact").write_bytes(b"\xff\xfe")
    assert files.line("fact") == "\ufffd\ufffd"


def test_lines_are_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "fact").write_text("line\n" * 100_000)
    files = SystemFiles(tmp_path)
    assert len(list(files.lines("fact", 1 << 30))) == 100_001, "the last one is empty"
    assert 10_000 < len(list(files.lines("fact", 100_000))) < 100_000


def test_names_stay_below_the_root_and_few(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"hwmon{number}").touch()
    files = SystemFiles(tmp_path)
    assert len(files.names("hwmon*")) == 1000
    assert files.names("nowhere/*") == []
    assert files.names("") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "fact").write_text("1")
    (tmp_path / "fact").chmod(0)
    assert SystemFiles(tmp_path).line("fact") is None
