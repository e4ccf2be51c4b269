"""What is said about a machine, on fake trees of files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnxruntime
import pytest

from waveedge.runtime import describe_machine, machine

X86 = """processor\t: 0
model name\t: Some Processor 9000
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_int8

processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd42\n"
NVPMODEL = """# comment: < POWER_MODEL ID=9 NAME=COMMENT >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_this_machine_can_be_described_as_json() -> None:
    here = describe_machine()
    assert json.loads(json.dumps(here.to_dict())) == here.to_dict()
    assert here.onnxruntime == onnxruntime.__version__
    assert here.cores >= 1
    assert here.cpu
    assert f"onnxruntime {onnxruntime.__version__}" in here.summary()


def test_a_server(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", X86)
    write(tmp_path, "proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\n")
    write(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t A Big GPU\n")
    found = describe_machine(tmp_path)
    assert found.cpu == "Some Processor 9000"
    assert found.isa == ("avx2", "avx512f", "avx512_vnni", "amx_int8")
    assert found.memory_bytes == 2 * 2**20
    assert found.gpus == ("A Big GPU",)
    assert (found.board, found.cpu_governor, found.cpu_clock_fixed) == (None, None, None)
    assert "avx512_vnni" in found.summary()


@pytest.mark.parametrize(("lowest", "fixed"), [("729600", False), ("1728000", True)])
def test_a_jetson(tmp_path: Path, lowest: str, fixed: bool) -> None:
    write(tmp_path, "proc/cpuinfo", ARM)
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    frequencies = "sys/devices/system/cpu/cpu0/cpufreq/scaling_"
    for name, value in (("governor", "schedutil"), ("min_freq", lowest), ("max_freq", "1728000")):
        write(tmp_path, frequencies + name, value + "\n")
    write(tmp_path, "etc/nvpmodel.conf", NVPMODEL)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0000 fmode:quiet\n")
    found = describe_machine(tmp_path)
    assert found.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found.isa == ("asimd", "asimddp", "i8mm")
    assert found.power_mode == "15W"
    assert found.cpu_governor == "schedutil"
    assert found.cpu_clock_fixed is fixed
    assert found.summary().startswith("NVIDIA Jetson Orin Nano Developer Kit")


def test_nvpmodel_is_asked_where_its_files_do_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = tmp_path / "nvpmodel"
    answers = {
        "echo 'NVPM WARN: fan mode is not set!'; echo 'NV Power Mode: 15W'; echo 0": "15W",
        "exec sleep 60": None,
        "echo 'NV Power Mode: 15W'; exit 1": None,
        "printf 'NV Power Mode: \\377\\n'": "\ufffd",
    }
    for script, mode in answers.items():
        monkeypatch.setattr(machine, "_ANSWER_SECONDS", 0.5 if "sleep" in script else 30)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert machine._power_mode() == mode
    program.unlink()
    assert machine._power_mode() is None


def test_an_empty_tree_leaves_what_it_cannot_tell_open(tmp_path: Path) -> None:
    found = describe_machine(tmp_path)
    assert found.memory_bytes is None
    assert (found.isa, found.gpus) == ((), ())
    assert found.cpu
