"""Energy of a run on sensors whose readings are known: files that change while it is measured."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from waveedge.runtime import measure_power
from waveedge.runtime.power import Phases, Power, _Sampler
from waveedge.runtime.sensors.sensor import Sensor

PHASES = Phases(idle=0.4, load=1.0, settle=0.5)
STEP = 0.01


class Board:
    """The files of an INA3221 whose power follows what runs: 3 W at rest, 8 W under load."""

    def __init__(self, root: Path, *, rest: float = 3.0, load: float = 8.0) -> None:
        self.folder = root / "sys/class/hwmon/hwmon0"
        self.folder.mkdir(parents=True)
        (self.folder / "name").write_text("ina3221")
        (self.folder / "in1_label").write_text("VDD_IN")
        (self.folder / "in1_input").write_text("1000")
        self.rest, self.load = rest, load
        self.runs, self.turn, self.last = 0, 0, 0.0
        self.ripple = 0.02
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def step(self) -> None:
        self.runs += 1
        self.last = time.perf_counter()
        time.sleep(STEP)

    def _follow(self) -> None:
        while not self._stop.wait(0.005):
            self._write()

    def _write(self) -> None:
        self.turn += 1
        busy = time.perf_counter() - self.last < PHASES.settle / 2
        watts = (self.load if busy else self.rest) + self.ripple * (-1) ** (self.turn // 8)
        new = self.folder / "new"
        new.write_text(f"{round(watts * 1000)}")
        new.rename(self.folder / "curr1_input")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., Board]:
    boards = []

    def make(**options: float) -> Board:
        boards.append(Board(tmp_path, **options))
        return boards[-1]

    yield make  # type: ignore[misc]
    for one in boards:
        one.stop()


def test_energy_is_above_rest(board: Callable[..., Board], tmp_path: Path) -> None:
    device = board()
    power, reason = measure_power(device.step, phases=PHASES, root=tmp_path)
    assert reason == ""
    assert power is not None
    assert power.watts == pytest.approx(8, abs=0.5)
    assert power.idle_watts == (pytest.approx(3, abs=0.5), pytest.approx(3, abs=0.5))
    a_run = power.seconds / power.runs
    assert power.joules_per_run == pytest.approx(5 * a_run, rel=0.2)
    assert power.total_joules_per_run == pytest.approx(8 * a_run, rel=0.2)
    assert power.seconds >= PHASES.load
    assert power.runs < device.runs, "the first part of the load does not count"
    assert 2 <= power.readings <= 21 * power.seconds, "20 samples a second, of which some repeat"
    assert power.rail == "VDD_IN, the input of the module"
    assert 0 < power.probe_share < 0.5
    note = power.notes("A")[0]
    assert "Energy of A: VDD_IN, the input of the module, by INA3221 in sysfs; 8." in note
    assert re.search(r"sampling took \d+\.\d% of a core\.$", note)


def test_a_sensor_that_repeats_itself_has_not_refreshed(
    board: Callable[..., Board], tmp_path: Path
) -> None:
    device = board(rest=3, load=3)
    device.ripple = 0
    power, reason = measure_power(device.step, phases=PHASES, root=tmp_path)
    assert power is None
    assert reason.startswith("INA3221 in sysfs had ")
    assert "new readings in 1." in reason


def test_a_run_below_rest_is_not_made_up(board: Callable[..., Board], tmp_path: Path) -> None:
    device = board(rest=3, load=2.9)
    power, _ = measure_power(device.step, phases=PHASES, root=tmp_path)
    assert power is not None
    assert power.joules_per_run < 0
    assert "A took no more power than the machine at rest" in power.notes("A")[1]


def test_a_sensor_that_stops_is_named(board: Callable[..., Board], tmp_path: Path) -> None:
    device = board()
    device.stop()

    def step() -> None:
        (device.folder / "curr1_input").unlink(missing_ok=True)

    power, reason = measure_power(step, phases=PHASES, root=tmp_path)
    assert (power, reason) == (None, "INA3221 in sysfs stopped giving readings")


def test_without_a_sensor_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    runs: list[int] = []
    power, reason = measure_power(lambda: runs.append(1), root=tmp_path)
    assert (power, reason) == (None, "this processor shows no energy counters (RAPL)")
    assert runs == []


def test_unsteady_rest_is_told() -> None:
    power = Power(8, (3, 4), 0.45, 0.8, "VDD_IN", "INA3221", 20, 3.0, 30, 0.01)
    assert power.notes("B")[1] == (
        "Power at rest went from 3.00 to 4.00 W around B: its energy is uncertain by 11%."
    )


def test_samples_hold_until_the_next_and_repeats_are_no_readings() -> None:
    sampler = _Sampler(Sensor(), [(0.0, 9.0), (1.0, 2.0), (2.0, 2.0), (3.0, 6.0), (9.0, 1.0)])
    assert sampler.mean(1.0, 4.0) == pytest.approx((2 + 2 + 6) / 3)
    assert sampler.mean(2.5, 4.0) == pytest.approx(6)
    assert sampler.mean(4.0, 5.0) is None
    assert sampler.readings(1.0, 4.0) == 2
    assert sampler.readings(1.5, 4.0) == 1


def test_slow_sensors_are_given_time() -> None:
    slow = Sensor()
    slow.interval = 1.0
    assert Phases().of(slow) == Phases(idle=4, load=8, settle=1)
    slow.interval = 0.02
    assert Phases().of(slow) == Phases()
