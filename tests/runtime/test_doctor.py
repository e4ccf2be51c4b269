"""What the doctor says of machines, as trees of files: their facts, targets and mends."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waveedge.commands import doctor as command
from waveedge.export import target_names
from waveedge.extras import requirement
from waveedge.runtime import prescriptions
from waveedge.runtime.doctor import Diagnosis, diagnose
from waveedge.runtime.findings import Findings, Python, find, this_python
from waveedge.runtime.libraries import LIBRARIES, Library
from waveedge.runtime.prescriptions import JUDGES
from waveedge.wheel import wheel_name

ABSENT = Library(None, "not installed")
ORT = Library("1.23.2", "", ("CPUExecutionProvider",))
TENSORRT = Library("10.3.0", "")
DRIVER = Library("12.6", "", ("8.7",))

BOARD = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
ORIN = {
    "proc/device-tree/model": f"{BOARD}\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
    "proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 5000000 kB\n"
    "SwapTotal: 3900992 kB\nSwapFree: 3900992 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/15340000.vic/min_freq": "1\n",
    "sys/class/devfreq/15340000.vic/max_freq": "2\n",
    "sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "sys/class/hwmon/hwmon0/pwm1": "102\n",
    "sys/class/hwmon/hwmon1/name": "pwm_tach\n",
    "sys/class/hwmon/hwmon1/rpm": "2400\n",
    "sys/class/hwmon/hwmon2/name": "ina3221\n",
    "sys/class/hwmon/hwmon2/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon2/in1_input": "5040\n",
    "sys/class/hwmon/hwmon2/curr1_input": "1000\n",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
    "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
    "usr/src/tensorrt/bin/trtexec": "",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}',
}
HOME = Python("3.10", venv=True, sees_system=True, managed=False)


def plant(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def orin(
    root: Path, changes: dict[str, str | None] | None = None, **libraries: Library
) -> Findings:
    """Findings on an Orin Nano in order, with files of the tree changed, or dropped by None."""
    tree = {**ORIN, **(changes or {})}
    plant(root, {name: text for name, text in tree.items() if text is not None})
    usual = {"onnxruntime": ORT, "tensorrt": TENSORRT, "cuda": DRIVER}
    every = {**dict.fromkeys(LIBRARIES, ABSENT), **usual, **libraries}
    return find(root, libraries=every, python=HOME, architecture="aarch64")


def verdict(diagnosis: Diagnosis, target: str) -> Any:
    return next(item for item in diagnosis.targets if item.target == target)


def test_every_target_of_the_registry_is_known() -> None:
    assert sorted(JUDGES) == sorted(target_names())


def test_an_orin_in_order(tmp_path: Path) -> None:
    diagnosis = diagnose(orin(tmp_path))
    found = diagnosis.found
    assert found.machine.board == BOARD
    assert (found.machine.l4t, found.machine.jetpack) == ("36.4.3", "6.2")
    assert found.machine.power_mode == "MAXN_SUPER"
    assert (found.machine.cpu_clock_fixed, found.machine.gpu_clock_fixed) == (True, True)
    assert (found.tensorrt, found.cuda_toolkit, found.trtexec) == ("10.3.0", "12.6.68", True)
    assert found.fan is not None
    assert (found.fan.drive, found.fan.rpm) == (0.4, 2400)
    assert (found.memory_free, found.swap) == (5000000 * 1024, 3900992 * 1024)
    assert found.power_sensor == "VDD_IN, the input of the module, by INA3221 in sysfs"
    assert verdict(diagnosis, "trt").runs
    assert verdict(diagnosis, "trt").by == "TensorRT 10.3.0 (SM 8.7)"
    assert verdict(diagnosis, "ort").by == "onnxruntime 1.23.2 (CPU)"
    assert not verdict(diagnosis, "trt-rtx").runs
    assert verdict(diagnosis, "openvino").mend == 'pip install "openvino>=2025.4"'
    assert diagnosis.advice == ()
    assert json.loads(json.dumps(diagnosis.to_dict())) == diagnosis.to_dict()


def test_the_package_of_jetpack_tells_more_than_the_release_of_l4t(tmp_path: Path) -> None:
    status = (
        "Package: nvidia-jetpack-dev\nVersion: 1.0\n\nPackage: nvidia-jetpack\n"
        "Status: install ok installed\nVersion: 6.2.1+b38\n"
    )
    assert orin(tmp_path, {"var/lib/dpkg/status": status}).machine.jetpack == "6.2.1"


@pytest.mark.parametrize(
    ("release", "revision", "jetpack"),
    [
        (36, "3.0", "6.0"),
        (36, "4.0", "6.1"),
        (36, "4.7", "6.2.1"),
        (38, "2.0", "7.0"),
        (38, "4.0", "7.1"),
        (39, "2.1", "7.2"),
        (35, "6.1", "5"),
        (32, "7.1", "4"),
        (36, "2.0", None),
        (40, "1.0", None),
    ],
)
def test_jetpack_by_the_release_of_l4t(
    release: int, revision: str, jetpack: str | None, tmp_path: Path
) -> None:
    text = f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n"
    machine = orin(tmp_path, {"etc/nv_tegra_release": text}).machine
    assert (machine.l4t, machine.jetpack) == (f"{release}.{revision}", jetpack)


CPU = "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq"
GPU = "sys/class/devfreq/17000000.gpu/min_freq"
STATUS = "var/lib/nvpmodel/status"


@pytest.mark.parametrize(
    ("changes", "what", "command"),
    [
        ({STATUS: "pmode:0000\n"}, "power mode 15W caps the clocks", "sudo nvpmodel -m 2"),
        ({CPU: "729600\n"}, "the clocks rise and fall", "sudo jetson_clocks"),
        ({GPU: "306000000\n"}, "the clocks rise and fall", "sudo jetson_clocks"),
        ({"sys/class/hwmon/hwmon0/pwm1": "0\n"}, "the fan stands", "sudo jetson_clocks --fan"),
        ({"usr/src/tensorrt/bin/trtexec": None}, "trtexec", "sudo apt install libnvinfer-bin"),
        (
            {"proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 5000000 kB\nSwapTotal: 0 kB\n"},
            "no swap",
            "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && "
            "sudo mkswap /swapfile && sudo swapon /swapfile",
        ),
        (
            {"proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 500000 kB\nSwapTotal: 1 kB\n"},
            "less than 1 GiB of memory",
            "sudo systemctl isolate multi-user.target",
        ),
    ],
)
def test_a_setting_out_of_order_has_its_command(
    changes: dict[str, str | None], what: str, command: str, tmp_path: Path
) -> None:
    (item,) = diagnose(orin(tmp_path, changes)).advice
    assert item.what.startswith(what)
    assert item.command == command


NVINFER = "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0"
BINDINGS = "usr/lib/python3.10/dist-packages/tensorrt/__init__.py"
JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"


@pytest.mark.parametrize(
    ("changes", "libraries", "missing", "mend"),
    [
        ({NVINFER: None}, {"tensorrt": ABSENT}, "TensorRT: not installed", JETPACK),
        (
            {BINDINGS: None},
            {"tensorrt": ABSENT},
            "TensorRT 10.3.0 is installed, its Python bindings are not",
            "sudo apt install python3-libnvinfer",
        ),
        (
            {BINDINGS: None, BINDINGS.replace("3.10", "3.12"): ""},
            {"tensorrt": ABSENT},
            "TensorRT 10.3.0 is installed for Python 3.12, this is Python 3.10",
            "python3.12 -m venv --system-site-packages ~/waveedge && "
            f"~/waveedge/bin/pip install {wheel_name()}",
        ),
        (
            {},
            {"tensorrt": Library(None, "ImportError: libcudart")},
            "TensorRT 10.3.0 is installed, its import fails: ImportError: libcudart",
            "sudo apt install --reinstall python3-libnvinfer",
        ),
        (
            {},
            {"tensorrt": Library("8.6.1", "")},
            "TensorRT 8.6.1 is older than 10.3, the first that keeps a graph's own types: "
            "it needs JetPack 6.1 or later",
            None,
        ),
        (
            {},
            {"cuda": Library("12.6", "")},
            "the GPU does not answer (the driver sees none)",
            JETPACK,
        ),
        (
            {".dockerenv": ""},
            {"cuda": ABSENT},
            "this container does not see the GPU",
            "docker run --runtime nvidia ...",
        ),
    ],
)
def test_what_tensorrt_lacks_on_a_jetson(
    changes: dict[str, str | None],
    libraries: dict[str, Library],
    missing: str,
    mend: str | None,
    tmp_path: Path,
) -> None:
    found = verdict(diagnose(orin(tmp_path, changes, **libraries)), "trt")
    assert (found.runs, found.missing, found.mend) == (False, missing, mend)


def test_a_virtual_environment_that_hides_tensorrt(tmp_path: Path) -> None:
    found = orin(tmp_path, tensorrt=ABSENT)
    hidden = replace(found, python=Python("3.10", venv=True, sees_system=False, managed=False))
    answer = verdict(diagnose(hidden), "trt")
    assert "does not see the system's packages" in answer.missing
    assert answer.mend.startswith("python3 -m venv --system-site-packages ~/waveedge && ")


def test_a_user_outside_the_group_of_the_gpu(tmp_path: Path) -> None:
    found = replace(orin(tmp_path, cuda=ABSENT), may_use_gpu=False)
    answer = verdict(diagnose(found), "trt")
    assert answer.mend == 'sudo usermod -aG video,render "$USER"'


def test_where_pip_refuses_an_environment_is_made(tmp_path: Path) -> None:
    found = replace(orin(tmp_path), python=Python("3.12", False, True, managed=True))
    assert verdict(diagnose(found), "openvino").mend == (
        "python3 -m venv --system-site-packages ~/waveedge && "
        f'~/waveedge/bin/pip install {wheel_name()} "openvino>=2025.4"'
    )
    broken = replace(found, libraries={**found.libraries, "onnxruntime": Library(None, "SIGILL")})
    answer = verdict(diagnose(broken), "ort")
    assert answer.missing == "onnxruntime: SIGILL"
    assert answer.mend.endswith(f'pip install {wheel_name()} "onnxruntime>=1.20"')


def test_what_the_commands_install_is_what_waveedge_asks_for() -> None:
    """waveedge by its file, as no index has it; all else as the extras have it."""
    asked = {line.partition(";")[0].strip() for line in metadata.requires("waveedge") or ()}
    names = prescriptions._DISTRIBUTIONS
    for library in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"):
        assert requirement(names.get(library, library)) in asked


def test_the_pip_of_a_command_is_that_of_the_python_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment whose program is called by its path need not be activated."""
    for folder in ("system", "an env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pip").write_text("#!/bin/sh\n")
        (tmp_path / folder / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "system"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "system" / "python3"))
    assert this_python().pip == "pip"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "an env" / "python3"))
    assert this_python().pip == f"'{tmp_path}/an env/python3' -m pip"
    found = desktop(tmp_path, openvino=ABSENT)
    found = replace(found, python=this_python())
    assert verdict(diagnose(found), "openvino").mend == (
        f"'{tmp_path}/an env/python3' -m pip install \"openvino>=2025.4\""
    )


def test_where_a_wheel_is_to_be_had_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = orin(tmp_path, tensorrt=ABSENT)
    hidden = replace(found, python=Python("3.10", venv=True, sees_system=False, managed=False))
    command.show(diagnose(hidden))
    out = capsys.readouterr().out
    assert f"~/waveedge/bin/pip install {wheel_name()}\n" in out
    assert f"{wheel_name()} is what 'waveedge wheel' writes" in out


def desktop(root: Path, **libraries: Library) -> Findings:
    every = {**dict.fromkeys(LIBRARIES, ABSENT), "onnxruntime": ORT, **libraries}
    return find(root, libraries=every, python=HOME, architecture="x86_64")


def test_a_desktop_with_and_without_a_card(tmp_path: Path) -> None:
    card = Library("13.0", "", ("8.9",))
    works = desktop(tmp_path, cuda=card, tensorrt_rtx=Library("1.7.1", ""))
    assert verdict(diagnose(works), "trt-rtx").by == "TensorRT-RTX 1.7.1 (SM 8.9)"
    assert verdict(diagnose(works), "trt").mend == 'pip install "tensorrt>=10.3"'
    nothing = verdict(diagnose(desktop(tmp_path)), "trt")
    assert (nothing.missing, nothing.mend) == ("there is no NVIDIA GPU", None)
    plant(tmp_path, {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"})
    plant(tmp_path, {"sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n"})
    driverless = verdict(diagnose(desktop(tmp_path)), "trt-rtx")
    assert driverless.mend == "sudo ubuntu-drivers install"


def test_an_old_onnxruntime_is_not_enough(tmp_path: Path) -> None:
    answer = verdict(diagnose(desktop(tmp_path, onnxruntime=Library("1.9.0", ""))), "ort")
    assert (answer.runs, answer.missing) == (False, "onnxruntime 1.9.0 is older than 1.20")


def test_a_target_that_is_not_known_is_not_judged(tmp_path: Path) -> None:
    (answer,) = diagnose(desktop(tmp_path), ["npu"]).targets
    assert (answer.target, answer.runs, answer.mend) == ("npu", None, None)


@pytest.mark.parametrize("damage", ["gone", "folder", "FIFO", "noise", "huge", "deep"])
def test_no_file_of_the_system_can_make_it_fail(damage: str, tmp_path: Path) -> None:
    plant(tmp_path, {**ORIN, "var/lib/dpkg/status": ""})
    for name in (*ORIN, "var/lib/dpkg/status", "etc/group"):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if damage == "folder":
            path.mkdir()
        elif damage == "FIFO":
            os.mkfifo(path)
        elif damage == "noise":
            path.write_bytes(bytes(range(256)) * 4)
        elif damage == "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        elif damage == "deep":
            path.write_text('{"cuda": ' + "[" * 100_000)
    found = desktop(tmp_path)
    assert (found.machine.board, found.machine.l4t, found.machine.power_mode) == (None,) * 3
    assert (found.memory_free, found.swap, found.fan, found.cuda_toolkit) == (None,) * 4
    assert found.power_sensor is None
    assert found.no_power_sensor
    values = json.loads(json.dumps(diagnose(found).to_dict()))
    assert {item["target"] for item in values["targets"]} == set(JUDGES)


TREE = st.dictionaries(
    st.sampled_from([*ORIN, "var/lib/dpkg/status", "etc/group", "usr/local/cuda/version.txt"]),
    st.binary(max_size=200)
    | st.sampled_from(
        [
            b"pmode:9999",
            b"# R36 (release), REVISION: 4.3.99.1.2,",
            b"# R0 (release), REVISION: 0",
            b"< POWER_MODEL ID=0 NAME=MAXN >" * 50,
            b'{"cuda": []}',
            b'{"cuda": {"version": 1e999}}',
            b"MemTotal: -1 kB\nSwapTotal: 9999999999999999999999 kB\nMemAvailable: kB",
            b"Package: nvidia-jetpack\nVersion: ...",
            b"video:x:99999999999:root",
            b"-9223372036854775808",
        ]
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(tree=TREE)
def test_any_files_give_a_diagnosis(tree: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in tree.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(content)
        diagnosis = diagnose(desktop(Path(folder)))
        json.dumps(diagnosis.to_dict(), allow_nan=False)
        assert [item.target for item in diagnosis.targets] == list(JUDGES)
        command.show(diagnosis)


def test_this_python_is_described() -> None:
    here = this_python()
    assert here.version.startswith("3.")
    assert not (here.venv and here.managed)
