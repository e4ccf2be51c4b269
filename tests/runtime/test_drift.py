"""Heat, clocks and limits, as files of the system that change while a benchmark runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from waveedge.runtime.drift import Drift, Watch

ZONE = "sys/class/thermal/thermal_zone0"
CPU = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
GPU = "sys/class/devfreq/17000000.gpu/cur_freq"
ALARM = "sys/class/hwmon/hwmon2/curr1_crit_alarm"
EVENTS = "sys/class/hwmon/hwmon4/oc1_event_cnt"
COOLING = "sys/class/thermal/cooling_device3/cur_state"
CORE = "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"

STEADY: dict[str, object] = {
    f"{ZONE}/type": "cpu-thermal",
    f"{ZONE}/temp": 50_000,
    f"{ZONE}/trip_point_0_type": "active",
    f"{ZONE}/trip_point_0_temp": 40_000,
    f"{ZONE}/trip_point_1_type": "passive",
    f"{ZONE}/trip_point_1_temp": 99_000,
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
    "sys/class/thermal/thermal_zone1/temp": -256_000,
    "sys/class/thermal/thermal_zone2/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone2/temp": 48_500,
    CPU.format(0): 729_600,
    CPU.format(1): 1_728_000,
    GPU: 1_020_000_000,
    "sys/class/devfreq/15340000.vic/cur_freq": 1,
    "sys/class/hwmon/hwmon2/in1_label": "VDD_IN",
    ALARM: 0,
    EVENTS: 7,
    "sys/class/thermal/cooling_device0/type": "pwm-fan",
    "sys/class/thermal/cooling_device0/cur_state": 2,
    "sys/class/thermal/cooling_device3/type": "cpufreq-cpu0",
    COOLING: 0,
    CORE: 4,
}


def plant(root: Path, tree: dict[str, object]) -> None:
    for name, value in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


def measured(root: Path, changes: dict[str, object]) -> Drift:
    """What is told of a benchmark of 1 + 9 pairs in whose midst the files change."""
    plant(root, STEADY)
    watch = Watch(1, root)
    watch.pair(1, 10)
    plant(root, changes)
    watch.pair(5, 10)
    watch.pair(10, 10)
    return watch.drift([10.0] * 9, [20.0] * 9)


def test_a_steady_machine_needs_no_note(tmp_path: Path) -> None:
    found = measured(tmp_path, {CPU.format(0): 1_728_000, CPU.format(1): 729_600})
    assert found.notes(gpu=True) == []
    assert found.temperatures == {"cpu-thermal": (50.0, 50.0), "cpu-thermal (2)": (48.5, 48.5)}
    assert found.clocks == {
        "cpu": (1_728_000_000, 1_728_000_000),
        "17000000.gpu": (1_020_000_000, 1_020_000_000),
    }
    assert (found.throttled, found.time_ratio) == ((), 1.0)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({f"{ZONE}/temp": 61_500}, "The machine warmed up: cpu-thermal from 50.0 to 61.5 °C."),
        (
            {CPU.format(1): 1_200_000},
            "The clock of cpu fell from 1728 to 1200 MHz.",
        ),
        ({ALARM: 1}, "an over-current alarm of VDD_IN."),
        ({EVENTS: 8}, "an over-current limit of the chip."),
        ({COOLING: 3}, "a thermal limit of cpufreq-cpu0."),
        ({CORE: 5}, "a core's thermal limit."),
        (
            {COOLING: 1, EVENTS: 9},
            "an over-current limit of the chip; a thermal limit of cpufreq-cpu0.",
        ),
    ],
)
def test_what_changes_is_told(changes: dict[str, object], note: str, tmp_path: Path) -> None:
    (found,) = measured(tmp_path, changes).notes(gpu=False)
    throttled = "The machine throttled while it was measured: "
    assert found in (note, throttled + note)
    assert found.startswith(throttled) == ("limit" in note or "alarm" in note)


def test_the_temperature_from_which_a_system_slows_itself(tmp_path: Path) -> None:
    hot = measured(tmp_path, {f"{ZONE}/temp": 99_000})
    assert hot.throttled == ("cpu-thermal at 99.0 °C, where the system slows itself",)


def test_a_limit_that_stood_before_and_stands_still_slowed_every_run(tmp_path: Path) -> None:
    plant(tmp_path, {**STEADY, COOLING: 2, EVENTS: 9})
    watch = Watch(0, tmp_path)
    watch.pair(3, 3)
    assert watch.drift().throttled == ("a thermal limit of cpufreq-cpu0",)


def test_the_clock_of_a_gpu_matters_to_its_work_alone(tmp_path: Path) -> None:
    slower = measured(tmp_path, {GPU: 306_000_000})
    assert slower.notes(gpu=False) == []
    assert slower.notes(gpu=True) == ["The clock of 17000000.gpu fell from 1020 to 306 MHz."]


def test_times_that_drift(tmp_path: Path) -> None:
    watch = Watch(0, tmp_path)
    watch.pair(9, 9)
    a = [10.0, 10, 99, 11, 11, 11, 12, 12, 1]
    found = watch.drift(a, [2 * time for time in a])
    assert found.time_ratio == pytest.approx(1.2)
    assert found.notes(gpu=False) == [
        "Times rose by 20% from the first third of the runs to the last; the ratios hold, as A "
        "and B took turns."
    ]
    one = watch.drift(a)
    assert one.time_ratio == pytest.approx(1.2)
    assert one.notes(gpu=False, alone=True) == [
        "Times rose by 20% from the first third of the runs to the last; measure again on a steady "
        "machine."
    ]
    assert watch.drift(a[:8], a[:8]).time_ratio is None
    assert (found.temperatures, found.clocks, found.throttled) == ({}, {}, ())


@pytest.mark.parametrize("value", ["", "x", "nan", "9" * 30])
def test_strange_files_are_left_out(value: str, tmp_path: Path) -> None:
    found = measured(tmp_path, dict.fromkeys(STEADY, value))
    assert found.temperatures == {}
    assert found.throttled == ()
    assert found.notes(gpu=True) == []
