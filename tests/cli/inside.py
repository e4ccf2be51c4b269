"""Run the command line inside the test's process: a start of Python and torch takes seconds."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from waveedge.cli import main


@dataclass(frozen=True)
class Result:
    """What a run left behind: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


def run_inside(folder: Path, *arguments: object, stdout: IO[bytes] | None = None) -> Result:
    """Run ``waveedge ARGUMENTS`` in ``folder``, as a process would, descriptors and all.

    Args:
        stdout: where standard output goes instead of the result.
    """
    before, modules = Path.cwd(), set(sys.modules)
    with (
        tempfile.TemporaryFile("w+b") as out,
        tempfile.TemporaryFile("w+b") as err,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            with _replaced(1, "stdout", stdout or out), _replaced(2, "stderr", err):
                try:
                    main([str(argument) for argument in arguments])
                    code: object = 0
                except SystemExit as end:
                    code = end.code
        finally:
            os.chdir(before)
            for name in set(sys.modules) - modules:  # the test's own; the next has others
                if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                    del sys.modules[name]
        assert isinstance(code, int)
        return Result(code, *(_text(file) for file in (out, err)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@contextmanager
def _replaced(number: int, name: str, file: IO[bytes]) -> Iterator[None]:
    """Let a descriptor and Python's stream of that name lead to ``file``."""
    stream = getattr(sys, name)
    stream.flush()
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        with open(os.dup(number), "w", encoding="utf-8", errors="backslashreplace") as own:
            setattr(sys, name, own)
            yield
    finally:
        setattr(sys, name, stream)
        os.dup2(kept, number)
        os.close(kept)
