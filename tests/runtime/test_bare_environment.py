"""A device carries numpy and onnxruntime, and the runtime needs nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from waveedge.runtime import Session

PACKAGES = ("numpy", "numpy.libs", "onnxruntime")
ROOMS = ("calibration", "export", "runtime")  # beside waveedge/ in the tree, inside it in a wheel

PROGRAM = """
import json, sys, sysconfig
bare, folder = sys.argv[1:]
sys.path.insert(0, bare)
import numpy as np
import waveedge
from waveedge.runtime import Session, benchmark, newest_bundle

bundle = newest_bundle(folder)
session = Session(bundle)
output = session(np.ones(session.input_shape, np.float32))
comparison = benchmark(bundle, runs=3, warmup=1)
comparison.table()
standard = sysconfig.get_paths()["stdlib"]
foreign = {
    module.__name__.partition(".")[0]
    for module in list(sys.modules.values())
    if (file := getattr(module, "__file__", None))
    and ("site-packages" in file or not file.startswith(standard))
}
print(json.dumps({
    "sum": float(output.sum()),
    "path": sys.path,
    "foreign": sorted(foreign),
    "loaded": sorted(name for name in sys.modules if name.startswith("waveedge")),
    "comparison": comparison.to_dict(),
}))
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder that holds numpy, onnxruntime and waveedge as a wheel lays it out, and no more."""
    folder = tmp_path / "bare"
    package = folder / "waveedge"
    package.mkdir(parents=True)
    for name in ("waveedge", *(f"waveedge.{room}" for room in ROOMS)):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).parent
        if name == "waveedge":
            for entry in source.iterdir():
                if entry.name != "__pycache__" and entry.name not in ROOMS:
                    (package / entry.name).symlink_to(entry)
        else:
            (package / name.partition(".")[2]).symlink_to(source)
    site = Path(np.__file__).parents[1]
    for name in PACKAGES:
        if (site / name).exists():  # numpy.libs is part of Linux wheels alone
            (folder / name).symlink_to(site / name)
    return folder


def test_a_model_runs_and_is_measured_without_torch(bare: Path, bundle: Path) -> None:
    # -I and -S: no user site, no site-packages, no environment variables, no working directory.
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(bare), str(bundle.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert not [entry for entry in values["path"] if "site-packages" in entry]
    assert values["foreign"] == ["numpy", "onnxruntime", "waveedge"]
    # Whoever imports one more room here breaks devices.
    alone = ("errors", "extras", "files", "filetypes", "interrupts", "lazy", "outputs", "workplace")
    allowed = ("waveedge.runtime", *(f"waveedge.{module}" for module in alone))
    loaded = [name for name in values["loaded"] if name != "waveedge"]
    assert [name for name in loaded if not name.startswith(allowed)] == []

    here = Session(bundle)(np.ones((1, 3, 32, 32), np.float32))
    assert isinstance(here, np.ndarray)
    assert values["sum"] == pytest.approx(float(here.sum()), rel=1e-5)
    comparison = values["comparison"]
    assert len(comparison["a"]["cpu"]["samples"]) == 3
    # The probe's fresh process finds the packages by the path of its parent, and measured.
    measured = [note for note in comparison["notes"] if "less than 0.5 MiB" in note]
    assert len(measured) == 2 or not Path("/proc/self/clear_refs").exists()
