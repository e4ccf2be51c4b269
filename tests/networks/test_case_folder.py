"""Networks of a folder, by hand: each goes the whole way, or is refused in words.

WAVEEDGE_CASES names a folder with one folder for each case; its ``net.py`` has ``make()`` and
writes ``model.pt`` when it is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("WAVEEDGE_CASES", "")
CASES = sorted(path.parent for path in Path(FOLDER).glob("*/net.py")) if FOLDER else []
FAULTS = ("bug in waveedge", "fault of the export", "Traceback")


@pytest.mark.skipif(not FOLDER, reason="WAVEEDGE_CASES names no folder of cases")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_goes_the_whole_way_or_is_refused_plainly(case: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(case, work)
    subprocess.run([sys.executable, "net.py"], cwd=work, check=True)
    network = ["--arch", "net:make"]
    lines = [
        ["compress", "model.pt", *network, "--input-size", "64x64", "--out", "c.safetensors"],
        ["export", "model.pt", *network, "--input-size", "64x64", "--out", "f.ort"],
        ["export", "c.safetensors", *network, "--out", "c.ort"],
    ]
    for line in lines:
        if line[1] == "c.safetensors" and not (work / line[1]).exists():
            continue
        command = [sys.executable, "-m", "waveedge", *line]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert not [fault for fault in FAULTS if fault in said], said
        assert (done.returncode == 0) == (work / line[-1]).exists(), said
        assert done.returncode == 0 or said.count("error: ") == 1, said
