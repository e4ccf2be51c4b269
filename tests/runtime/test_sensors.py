"""Sensors of power on trees of files, in processes of their own, and which of them is taken."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from waveedge.runtime.sensors import NoSensor, open_sensor
from waveedge.runtime.sensors.ina import InaSensor
from waveedge.runtime.sensors.jtop import JtopSensor
from waveedge.runtime.sensors.nvml import NvmlSensor
from waveedge.runtime.sensors.rapl import RaplSensor
from waveedge.runtime.system_files import SystemFiles


def plant(root: Path, folder: str, **files: object) -> None:
    for name, value in files.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


ORIN_NANO = {
    "name": "ina3221",
    "in1_label": "VDD_IN",
    "in1_input": 5040,
    "curr1_input": 1000,
    "in2_label": "VDD_CPU_GPU_CV",
    "in2_input": 5032,
    "curr2_input": 200,
    "in3_label": "VDD_SOC",
    "in3_input": 5040,
    "curr3_input": 300,
    "in7_label": "sum of shunt voltages",
    "in7_input": 9,
    "curr4_input": 1500,
}


@pytest.mark.parametrize(
    "folder",
    ["sys/class/hwmon/hwmon3", "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"],
)
def test_the_module_of_an_orin_nano(folder: str, tmp_path: Path) -> None:
    plant(tmp_path, folder, **ORIN_NANO)
    plant(tmp_path, "sys/class/hwmon/hwmon0", name="pwmfan", pwm1=100)
    sensor = InaSensor(SystemFiles(tmp_path))
    assert sensor.watts() == pytest.approx(5.04)
    assert sensor.rail == "VDD_IN, the input of the module"
    assert sensor.source == "INA3221 in sysfs"
    plant(tmp_path, folder, curr1_input=2000)
    assert sensor.watts() == pytest.approx(10.08)
    (tmp_path / folder / "curr1_input").unlink()
    with pytest.raises(OSError, match="no reading"):
        sensor.watts()


def test_an_agx_orin_has_a_sum_over_two_chips(tmp_path: Path) -> None:
    rails = {"VDD_GPU_SOC": 400, "VDD_CPU_CV": 100, "VIN_SYS_5V0": 800}
    for number, (label, milliamperes) in enumerate(rails.items(), 1):
        plant(tmp_path, "sys/class/hwmon/hwmon1", name="ina3221")
        files = {
            f"in{number}_label": label,
            f"in{number}_input": 5000,
            f"curr{number}_input": milliamperes,
        }
        plant(tmp_path, "sys/class/hwmon/hwmon1", **files)
    second: dict[str, object] = {"name": "ina3221", "in1_label": "NC", "in1_input": 5000}
    second.update(curr1_input=999, in2_label="VDDQ_VDD2_1V8AO", in2_input=1800, curr2_input=500)
    second.update(in3_label="VDD_OFF", in3_input=5000)  # a channel that is switched off
    plant(tmp_path, "sys/class/hwmon/hwmon2", **second)
    sensor = InaSensor(SystemFiles(tmp_path))
    assert sensor.watts() == pytest.approx(5 * 1.3 + 0.9)
    assert sensor.rail == (
        "the sum of the rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0, VDDQ_VDD2_1V8AO"
    )


@pytest.mark.parametrize("label", ["VIN", None])
def test_the_input_of_a_thor(label: str | None, tmp_path: Path) -> None:
    plant(tmp_path, "sys/class/hwmon/hwmon1", **{**ORIN_NANO, "in1_label": "VDD_GPU"})
    plant(tmp_path, "sys/class/hwmon/hwmon2", name="ina238", power1_input=23_000_000)
    if label is None:
        plant(tmp_path, "etc", nv_tegra_release="# R38 (release), REVISION: 2.0")
    else:
        plant(tmp_path, "sys/class/hwmon/hwmon2", in1_label=label)
    sensor = InaSensor(SystemFiles(tmp_path))
    assert sensor.watts() == pytest.approx(23)
    assert sensor.rail == "VIN, the input of the system"
    assert sensor.source == "INA238 and INA3221 in sysfs"


def test_jetpack_4_gives_milliwatts(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    plant(tmp_path, folder, rail_name_0="POM_5V_IN", in_power0_input=4122)
    plant(tmp_path, folder, rail_name_1="POM_5V_GPU", in_power1_input=1040)
    sensor = InaSensor(SystemFiles(tmp_path))
    assert sensor.watts() == pytest.approx(4.122)
    assert sensor.rail == "POM_5V_IN, the input of the carrier board"


def test_a_hat_with_one_chip_names_it(tmp_path: Path) -> None:
    plant(tmp_path, "sys/class/hwmon/hwmon0", name="ina219", power1_input=2_500_000)
    sensor = InaSensor(SystemFiles(tmp_path))
    assert (sensor.watts(), sensor.rail) == (pytest.approx(2.5), "INA219")


@pytest.mark.parametrize("value", ["", "x", "1e9", "1\n2"])
def test_files_that_say_nothing_are_no_sensor(value: str, tmp_path: Path) -> None:
    plant(tmp_path, "sys/class/hwmon/hwmon0", name="ina3221", in1_label="VDD_IN", in1_input=value)
    plant(tmp_path, "sys/class/hwmon/hwmon0", curr1_input=value)
    with pytest.raises(NoSensor, match="sysfs shows no power monitor"):
        InaSensor(SystemFiles(tmp_path))


def rapl(root: Path, number: int, microjoules: int, name: str = "package-0") -> None:
    zone = f"sys/class/powercap/intel-rapl:{number}"
    plant(root, zone, name=name, energy_uj=microjoules)
    plant(root, f"sys/class/powercap/intel-rapl:{number}:0", name="core", energy_uj=10**12)


def test_rapl_is_the_growth_of_its_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    rapl(tmp_path, 0, 5_000_000)
    rapl(tmp_path, 1, 1_000_000, "package-1")
    rapl(tmp_path, 2, 9_000_000, "psys")
    sensor = RaplSensor(SystemFiles(tmp_path))
    assert sensor.rail == "2 processor packages"
    clock[0] = 10.5
    rapl(tmp_path, 0, 15_000_000)
    assert sensor.watts() == pytest.approx(20)
    clock[0] = 11.0
    assert sensor.watts() == pytest.approx(20), "the counters did not move"
    rapl(tmp_path, 0, 1_000)
    assert sensor.watts() == pytest.approx(20), "a counter began again"
    clock[0] = 12.0
    rapl(tmp_path, 0, 30_001_000)
    assert sensor.watts() == pytest.approx(30)


def test_rapl_for_root_alone_names_the_command(tmp_path: Path) -> None:
    plant(tmp_path, "sys/class/powercap/intel-rapl:0", name="package-0")
    with pytest.raises(NoSensor, match=r"sudo chmod a\+r /sys/class/powercap"):
        RaplSensor(SystemFiles(tmp_path))


JTOP = """
import time
class jtop:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def ok(self): time.sleep(0.05); return True
    power = {"rail": {}, "tot": {"power": 7500, "avg": 0}}
"""


def test_jetson_stats_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jtop.py").write_text(JTOP)
    monkeypatch.syspath_prepend(tmp_path)
    with JtopSensor() as sensor:
        assert sensor.watts() == pytest.approx(7.5)
        assert "jtop" not in sys.modules
    (tmp_path / "jtop.py").write_text("raise RuntimeError('the service is not active')")
    with pytest.raises(NoSensor, match="gave no reading"):
        JtopSensor()


def test_jetson_stats_of_another_python_is_found_by_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\nwhile :; do echo 1234; sleep 0.05; done\n")
    (tmp_path / "bin" / "jtop").write_text(f"#!{python}\nfrom jtop.__main__ import main\n")
    for file in (tmp_path / "bin").iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with JtopSensor() as sensor:
        assert sensor.watts() == pytest.approx(1.234)


class NVMLError(Exception):
    pass


def nvml(milliwatts: int | None) -> Any:
    def usage(card: int) -> int:
        if milliwatts is None:
            raise NVMLError("Not Supported")
        return milliwatts

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetPowerUsage=usage,
    )


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any sensor."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path / "root"


def test_a_card_is_read_for_work_on_it_alone(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(250_000))
    rapl(nowhere, 0, 1)
    with open_sensor(gpu=True, root=nowhere) as sensor:
        assert isinstance(sensor, NvmlSensor)
        assert sensor.watts() == pytest.approx(250)
    assert isinstance(open_sensor(root=nowhere), RaplSensor)


def test_monitors_in_sysfs_come_first(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(250_000))
    rapl(nowhere, 0, 1)
    plant(nowhere, "sys/class/hwmon/hwmon0", **ORIN_NANO)
    for gpu in (False, True):
        assert isinstance(open_sensor(gpu=gpu, root=nowhere), InaSensor)


def test_without_a_sensor_there_is_a_reason(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSensor, match=r"^this processor shows no energy counters"):
        open_sensor(root=nowhere)
    with pytest.raises(NoSensor, match=r"^NVML is not installed"):
        open_sensor(gpu=True, root=nowhere)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(None))
    plant(nowhere, "etc", nv_tegra_release="# R36 (release), REVISION: 4.3")
    with pytest.raises(NoSensor) as error:
        open_sensor(gpu=True, root=nowhere)
    assert str(error.value) == (
        "sysfs shows no power monitor (INA3221, INA238) with a reading; there is no tegrastats; "
        "jetson-stats is not installed; NVML gives no power: Not Supported"
    )
