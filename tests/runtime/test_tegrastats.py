"""Lines of tegrastats as boards print them, and a program that prints such lines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from waveedge.runtime.sensors.rails import total
from waveedge.runtime.sensors.sensor import NoSensor
from waveedge.runtime.sensors.tegrastats import TegrastatsSensor, parse_line

# The shapes of lines, put together from what boards of each kind print.
ORIN_NANO = (
    "RAM 3162/7620MB (lfb 8x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@1510,0%@1510,off,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 84%@[713] VIC off APE 200 cpu@50.031C tj@50.031C "
    "VDD_IN 17946mW/15710mW VDD_CPU_GPU_CV 7013mW/6013mW VDD_SOC 2544mW/2544mW"
)
XAVIER_NX = (
    "RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192] "
    "EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C "
    "AO@45C GPU@45.5C PMIC@50C VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
AGX_ORIN = (
    "RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C GPU@-256C "
    "VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
AGX_XAVIER = (
    "RAM 14700/15692MB (lfb 3x2MB) SWAP 898/8192MB (cached 23MB) CPU [0%@1190,0%@1190] "
    "EMC_FREQ 0% GR3D_FREQ 0% APE 150 MTS fg 0% bg 10% AO@30C GPU@30.5C Tboard@31C PMIC@100C "
    "GPU 463/463 CPU 618/618 SOC 2936/2936 CV 0/0 VDDRQ 309/309 SYS5V 3306/3306"
)
NANO = (
    "RAM 613/3964MB (lfb 634x4MB) IRAM 0/252kB(lfb 252kB) SWAP 0/1982MB (cached 0MB) "
    "CPU [2%@102,1%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C "
    "POM_5V_IN 4122/3107 POM_5V_GPU 1040/936 POM_5V_CPU 847/758"
)
TX2 = (
    "RAM 1179/7851MB (lfb 120x4MB) CPU [1%@345,off,off,4%@345] EMC_FREQ 7%@408 GR3D_FREQ 0%@114 "
    "APE 150 MTS fg 0% bg 0% BCPU@37.5C MCPU@37.5C GPU@36C PLL@37.5C VDD_SYS_GPU 182/182 "
    "VDD_SYS_SOC 1005/1005 VDD_4V0_WIFI 76/76 VDD_IN 5297/5297 VDD_SYS_CPU 456/456"
)
THOR = (
    "08-12-2026 10:20:30 RAM 5000/125772MB (lfb 3x4MB) CPU [1%@2601] cpu@53.7C tj@55.1C "
    "VDD_GPU -392mW/0mW VDD_CPU_SOC_MSS 3924mW/3924mW VIN_SYS_5V0 6520mW/6520mW VIN 23000mW/22800mW"
)
WITH_DATE = f"10-08-2026 04:35:02 {ORIN_NANO}"

SHAPES = {
    "Orin Nano": (ORIN_NANO, 17.946, "VDD_IN, the input of the module", 3),
    "a date before it": (WITH_DATE, 17.946, "VDD_IN, the input of the module", 3),
    "Xavier NX": (XAVIER_NX, 2.763, "VDD_IN, the input of the module", 3),
    "AGX Orin": (
        AGX_ORIN,
        2.399 + 0.390 + 4.025 + 0.301,
        "the sum of the rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0, VDDQ_VDD2_1V8AO",
        4,
    ),
    "AGX Xavier": (
        AGX_XAVIER,
        0.463 + 0.618 + 2.936 + 0.309 + 3.306,
        "the sum of the rails GPU, CPU, SOC, CV, VDDRQ, SYS5V",
        6,
    ),
    "Nano": (NANO, 4.122, "POM_5V_IN, the input of the carrier board", 3),
    "TX2": (TX2, 5.297, "VDD_IN, the input of the module", 5),
    "Thor": (THOR, 23.0, "VIN, the input of the system", 4),
}


@pytest.mark.parametrize(("line", "watts", "rail", "count"), SHAPES.values(), ids=SHAPES)
def test_the_shapes_of_lines(line: str, watts: float, rail: str, count: int) -> None:
    rails = parse_line(line)
    assert len(rails) == count
    names, what = total(rails)
    assert sum(rails[name] for name in names) == pytest.approx(watts)
    assert what == rail


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\x00\xff nonsense",
        "RAM 1343/7620MB (lfb 157x4MB) IRAM 0/252kB(lfb 252kB) GPU@30.5C GR3D_FREQ 84%@[713]",
        "VDD_IN 5251mW/8535",
        "VDD_IN 5251/8535mW",
        "VDD_IN mW/mW",
        "vdd_in 1mW/1mW",
        "NC 7mW/7mW",
        "VDD_IN 99999999999mW/1mW",
    ],
)
def test_a_line_without_power_has_no_rails(line: str) -> None:
    assert parse_line(line) == {}


def program(folder: Path, script: str) -> str:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_newest_line_counts(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        f"echo 'no power in this line'; echo '{ORIN_NANO}'\n"
        f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done\n"
        f"echo '{NANO}'; echo \"$@\" > '{tmp_path}/asked'; exec sleep 60",
    )
    with TegrastatsSensor(path) as sensor:
        assert sensor.watts() == pytest.approx(17.946)
        assert (sensor.rail, sensor.source) == ("VDD_IN, the input of the module", "tegrastats")
        (tmp_path / "go").touch()
        until = time.monotonic() + 10
        while sensor.watts() != pytest.approx(4.122) and time.monotonic() < until:
            time.sleep(0.02)
        assert sensor.watts() == pytest.approx(4.122)
        process = sensor._process
    assert process.poll() is not None, "it is ended with the sensor"
    assert (tmp_path / "asked").read_text() == "--interval 100\n"


def test_the_time_that_the_program_takes_is_known(tmp_path: Path) -> None:
    loop = "while :; do :; done"
    with TegrastatsSensor(program(tmp_path, f"echo '{NANO}'; {loop}")) as sensor:
        until = time.monotonic() + 20
        while sensor.cpu_seconds() < 0.1 and time.monotonic() < until:
            time.sleep(0.05)
        assert 0.1 <= sensor.cpu_seconds() < 20


def test_a_program_that_ends_gives_no_more_readings(tmp_path: Path) -> None:
    with TegrastatsSensor(program(tmp_path, f"echo '{NANO}'")) as sensor:
        sensor._process.wait(10)
        with pytest.raises(OSError, match="has ended"):
            sensor.watts()


@pytest.mark.parametrize("script", ["exit 1", "echo nothing", "trap '' TERM; exec sleep 60"])
def test_a_program_without_power_is_no_sensor(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveedge.runtime.sensors.tegrastats._FIRST_SECONDS", 1.0)
    monkeypatch.setattr("waveedge.runtime.sensors.line_process._END_SECONDS", 0.3)
    with pytest.raises(NoSensor, match="gave no reading"):
        TegrastatsSensor(program(tmp_path, script))
    with pytest.raises(NoSensor, match="cannot be started"):
        TegrastatsSensor(str(tmp_path / "nowhere"))
