"""Energy of a run on sensors whose readings are known: files that change while it is measured."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.runtime import measure_power
from waveedge.runtime import power as module
from waveedge.runtime.energy import energy_ratio, measure_energy
from waveedge.runtime.power import IN_TURN, ROUNDS, Power, measure_in_turn
from waveedge.runtime.sampler import Phases, Sampler
from waveedge.runtime.sensors.sensor import Sensor

PHASES = Phases(idle=0.4, load=1.0, settle=0.5)
SHORT = Phases(idle=0.3, load=0.6, settle=0.3)
STEP = 0.01


class Board:
    """The files of an INA3221 whose power follows what runs: 3 W at rest, 8 W under load."""

    def __init__(
        self,
        root: Path,
        *,
        rest: float = 3.0,
        load: float = 8.0,
    ) -> None:
        self.root, self.folder = root, root / "sys/class/hwmon/hwmon0"
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
        now = time.perf_counter()
        watts = self.load if now - self.last < SHORT.settle / 2 else self.rest
        watts += self.ripple * (-1) ** (self.turn // 8)
        new = self.folder / "new"
        new.write_text(f"{round(watts * 1000)}")
        new.rename(self.folder / "curr1_input")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., Board]:
    boards = []

    def make(**options: Any) -> Board:
        boards.append(Board(tmp_path / str(len(boards)), **options))
        return boards[-1]

    yield make  # type: ignore[misc]
    for one in boards:
        one.stop()


def test_energy_is_above_rest(board: Callable[..., Board]) -> None:
    device = board()
    power, reason = measure_power(device.step, phases=PHASES, root=device.root)
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
    assert power.rounds == (power.joules_per_run,)
    note = power.notes("A")[0]
    assert "Energy of A: VDD_IN, the input of the module, by INA3221 in sysfs; 8." in note
    assert re.search(r"sampling took \d+\.\d% of a core\.$", note)


def test_a_sensor_that_repeats_itself_has_not_refreshed(board: Callable[..., Board]) -> None:
    device = board(rest=3, load=3)
    device.ripple = 0
    power, reason = measure_power(device.step, phases=PHASES, root=device.root)
    assert power is None
    assert reason.startswith("INA3221 in sysfs had ")
    assert "new readings in 1." in reason


def test_a_run_below_rest_is_not_made_up(board: Callable[..., Board]) -> None:
    device = board(rest=3, load=2.9)
    power, _ = measure_power(device.step, phases=PHASES, root=device.root)
    assert power is not None
    assert power.joules_per_run < 0
    assert "A took no more power than the machine at rest" in power.notes("A")[1]


def test_a_sensor_that_stops_is_named(board: Callable[..., Board]) -> None:
    device = board()
    device.stop()

    def step() -> None:
        (device.folder / "curr1_input").unlink(missing_ok=True)

    power, reason = measure_power(step, phases=PHASES, root=device.root)
    assert (power, reason) == (None, "INA3221 in sysfs stopped giving readings")


def test_without_a_sensor_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    runs: list[int] = []
    power, reason = measure_power(lambda: runs.append(1), root=tmp_path)
    assert (power, reason) == (None, "this processor shows no energy counters (RAPL)")
    assert runs == []


def test_unsteady_rest_is_told() -> None:
    power = Power(8, (3, 4), 0.45, 0.8, "VDD_IN", "INA3221", 20, 3.0, 30, 0.01, (0.45,))
    assert power.notes("B")[1] == (
        "Power at rest went from 3.00 to 4.00 W around B: its energy is uncertain by 11%."
    )


def test_samples_hold_until_the_next_and_repeats_are_no_readings() -> None:
    sampler = Sampler(Sensor(), [(0.0, 9.0), (1.0, 2.0), (2.0, 2.0), (3.0, 6.0), (9.0, 1.0)])
    assert sampler.mean(1.0, 4.0) == pytest.approx((2 + 2 + 6) / 3)
    assert sampler.mean(2.5, 4.0) == pytest.approx(6)
    assert sampler.mean(4.0, 5.0) is None
    assert sampler.readings(1.0, 4.0) == 2
    assert sampler.readings(1.5, 4.0) == 1


def test_slow_sensors_are_given_time() -> None:
    slow = Sensor()
    slow.interval = 1.0
    assert Phases().of(slow) == Phases(idle=4, load=8, settle=1)
    assert IN_TURN.of(slow).load > 5
    slow.interval = 0.1
    assert Phases().of(slow) == Phases()
    assert IN_TURN.of(slow) == IN_TURN


class Warming:
    """A board that warms up while it is measured, in seconds that do not pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def rest(self, _: Sampler, phases: Phases) -> float:
        return self._mean(phases)

    def load(
        self, step: Callable[[], float], before: float, _: Any, sampler: Any, phases: Phases
    ) -> Any:
        watts = self._mean(phases) + step()
        return module._Load(watts, before, self.rest(sampler, phases), 20, 2.0, 2, 0.01)

    def _mean(self, phases: Phases) -> float:
        self.now += 2 * phases.settle
        return 3 + 30 * (1 - math.exp(-self.now / 3))


def test_taking_turns_is_right_where_a_board_warms_up(
    monkeypatch: pytest.MonkeyPatch, board: Callable[..., Board]
) -> None:
    def warm_up() -> None:
        warming = Warming()
        monkeypatch.setattr(module, "_load", warming.load)
        monkeypatch.setattr(module.Sampler, "rest", lambda *given: warming.rest(*given))

    root = board().root
    warm_up()
    apart = [measure_power(lambda watts=watts: watts, root=root)[0] for watts in (5.0, 10.0)]
    assert apart[0] is not None
    assert apart[1] is not None
    assert apart[1].joules_per_run / apart[0].joules_per_run < 1.7, "5 and 10 W, taken for less"

    warm_up()
    powers, reason = measure_in_turn(lambda: 5.0, lambda: 10.0, root=root)
    assert reason == ""
    ratio = energy_ratio(*powers)
    assert ratio is not None
    assert ratio.value == pytest.approx(2, rel=0.05)
    assert ratio.low < 1.7, "the first round met what the other way meets, and the spread shows it"
    for power, watts in zip(powers, (5, 10), strict=True):
        assert len(power.rounds) == ROUNDS
        assert min(power.rounds) <= power.joules_per_run <= max(power.rounds)
        assert power.joules_per_run == pytest.approx(watts, rel=0.05)  # a run takes a second


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Loads that take no time; each costs 1 J more than the one before, B's ten times as much."""
    order: list[str] = []

    def load(step: Callable[[], str], *_: Any) -> Any:
        order.append(step())
        watts = 2.0 + (len(order)) * (10 if order[-1] == "B" else 1)
        return module._Load(watts, 2.0, 2.0, 20, 1.0, 1, 0.01)

    monkeypatch.setattr(module, "_load", load)
    monkeypatch.setattr(module.Sampler, "rest", lambda *_: 2.0)
    return order


def test_what_grows_evenly_weighs_on_both_alike(
    synthetic: list[str], board: Callable[..., Board]
) -> None:
    energy = measure_energy([lambda: "A", lambda: "B"], [False, False], root=board().root)
    assert "".join(synthetic) == "ABBAABBA"
    a, b = energy.powers
    assert a is not None
    assert b is not None
    assert a.rounds == (1, 4, 5, 8)
    assert b.rounds == (20, 30, 60, 70)
    assert (a.joules_per_run, b.joules_per_run) == (4.5, 45)
    assert energy.ratio is not None
    assert (energy.ratio.low, energy.ratio.high) == (7.5, 20)
    assert energy.ratio.value == pytest.approx((8.75 + 12) / 2)
    assert (a.readings, a.seconds, a.runs, a.probe_share) == (80, 4.0, 4, 0.01)
    assert energy.notes[-1].startswith("Energy of both: 4 rounds in turn with rest between, in ")


def test_one_alone_rests_works_and_rests(synthetic: list[str], board: Callable[..., Board]) -> None:
    energy = measure_energy([lambda: "A"], [False], root=board().root)
    assert (synthetic, energy.ratio, len(energy.powers), len(energy.notes)) == (["A"], None, 1, 1)


def test_a_round_that_is_lost_in_rest_leaves_no_ratio() -> None:
    power = Power(8, (3, 3), 0.4, 0.8, "VDD_IN", "INA3221", 20, 3.0, 30, 0.01, (0.4, -0.1, 0.5))
    assert energy_ratio(power, power) is None


@pytest.mark.parametrize("monitor", [True, False])
def test_a_gpu_and_a_processor_are_compared_by_what_sees_both(
    monitor: bool,
    synthetic: list[str],
    board: Callable[..., Board],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    opened: list[bool | None] = []
    found = module.open_sensor

    def only(*, gpu: bool | None, root: Path) -> Sensor:
        opened.append(gpu)
        if gpu is None and not monitor:
            return found(gpu=None, root=tmp_path / "nothing")
        return found(gpu=gpu, root=root)

    monkeypatch.setattr(module, "open_sensor", only)
    energy = measure_energy([lambda: "A", lambda: "B"], [True, False], root=board().root)
    assert all(energy.powers)
    if monitor:
        assert (opened, energy.ratio is None) == ([None], False)
        return
    assert (opened, energy.ratio, synthetic) == ([None, True, False], None, ["A", "B"])
    assert energy.notes[-1].endswith("by a sensor that sees it: they must not be compared.")


def test_without_a_sensor_two_have_one_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    energy = measure_energy([int, int], [False, False], root=tmp_path)
    assert energy.powers == (None, None)
    assert energy.notes == ("No energy: this processor shows no energy counters (RAPL).",)
