"""The source distribution of this tree, and the wheel that is built from it, as installers do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# What tools leave in a folder of sources.
LEFT = re.compile(r"\..*|build|dist|site|demo-out|__pycache__|.*\.egg-info|.*\.py[co]")


class Built(NamedTuple):
    """Attributes:
    tree: the files of this tree, as paths from its root.
    sdist: the unpacked source distribution.
    wheel: the wheel.
    """

    tree: set[str]
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    sources = folder / "sources"
    shutil.copytree(
        ROOT, sources, ignore=lambda _, names: [name for name in names if LEFT.fullmatch(name)]
    )
    tree = {str(file.relative_to(sources)) for file in sources.rglob("*") if file.is_file()}
    with tarfile.open(_build("sdist", sources, folder)) as archive:
        # Python 3.11.4 and later ask for a filter, and earlier ones know none.
        safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder / "unpacked", **safe)
    (sdist,) = (folder / "unpacked").iterdir()
    return Built(tree, sdist, _build("wheel", sdist, folder))


def _build(kind: str, sources: Path, out: Path) -> Path:
    # Not isolated: an environment of its own would have to be downloaded.
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=sources,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return result
