"""The command line as a process, and small real checkpoints to give it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@dataclass(frozen=True)
class Result:
    """What a process left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def short_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few bits ask for tuning by themselves, it takes 12 steps inside this process.

    That it would be 200 is asserted in compression/test_tuning.py.
    """
    for bound in ("_LEAST_STEPS", "_MOST_STEPS"):
        monkeypatch.setattr(f"waveedge.compression.recipe.{bound}", 12)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``waveedge ARGUMENTS`` in the test's own folder."""

    def call(*arguments: object, cwd: Path | None = None, **options: Any) -> Result:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "waveedge.cli", *map(str, arguments)],
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def checkpoint() -> bytes:
    """A super-resolution WaveMix of one block, as published ones are saved."""
    golden = torch.load(GOLDEN / "wavemix_sisr_l1.pth", weights_only=True)
    content = io.BytesIO()
    torch.save({k: v for k, v in golden.items() if not k.startswith("layers.1.")}, content)
    return content.getvalue()


@pytest.fixture
def model(tmp_path: Path, checkpoint: bytes) -> Path:
    """:func:`checkpoint` as ``model.pt`` in the test's own folder."""
    path = tmp_path / "model.pt"
    path.write_bytes(checkpoint)
    return path
