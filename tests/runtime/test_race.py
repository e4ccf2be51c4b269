"""A race in which some engines do not come home."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waveedge.commands import build as command
from waveedge.errors import WaveedgeError
from waveedge.runtime import race
from waveedge.runtime.backend import TensorInfo
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.engine_manifest import sidecar
from waveedge.runtime.race import chosen_engine

FULL = "cuMemAlloc_v2 returned CUDA error 2"


class Engine:
    """Runs so often, and then finds memory full."""

    def __init__(self, runs: int) -> None:
        self.inputs = [TensorInfo("image", (1, 3, 32, 32), np.dtype(np.float32))]
        self._runs = runs
        if not runs:
            raise WaveedgeError(FULL, hint="It is full.")
        LOADED.add(self)

    def run(self, image: Any) -> list[Any]:
        if not self._runs:
            raise WaveedgeError(FULL, hint="It is full.")
        self._runs -= 1
        return [image]


LOADED: weakref.WeakSet[Engine] = weakref.WeakSet()


def engines(monkeypatch: pytest.MonkeyPatch, **runs: int) -> None:
    """Engines by their names, that run so often."""
    monkeypatch.setattr(race, "EngineBackend", lambda path: Engine(runs.get(path.stem, 1000)))


@pytest.mark.parametrize("runs", [0, 3, 7], ids=["loading", "warming up", "timed"])
def test_an_engine_that_fails_is_left_out_with_its_reason(
    built: Bundle, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """As on a board with memory for one of two."""
    engines(monkeypatch, model=runs)
    loaded = []

    def progress(what: str, done: int, total: int) -> None:
        loaded.append(len(LOADED))

    laps = race.race(built.path, runs=4, progress=progress)
    assert loaded[-1] == 1, "what was left out gives its memory back"
    assert [(lap.form, lap.chosen, lap.error) for lap in laps] == [
        ("published-float32", True, ""),
        ("w8a4-float32", False, FULL),
    ]
    assert laps[0].ms is not None
    assert (laps[1].ms, laps[1].slower) == (None, None)
    written = json.loads((built.path / "race.json").read_text())
    assert [form["error"] for form in written["forms"]] == ["", FULL]
    assert chosen_engine(built) == built.path / "published.engine"


def test_an_engine_of_another_device_is_left_out(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines(monkeypatch)
    file = sidecar(built.path / "published.engine")
    file.write_text(json.dumps({**json.loads(file.read_text()), "gpu": "Thor"}))
    first, second = race.race(built.path, runs=2)
    assert (first.form, first.chosen) == ("w8a4-float32", True)
    assert "built for the GPU Thor, and here is Orin" in second.error


def test_the_race_ends_where_none_is_left_that_may_be_chosen(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines(monkeypatch, published=2)
    with pytest.raises(WaveedgeError, match=FULL):
        race.race(built.path, runs=4, least_db=100)
    assert not (built.path / "race.json").exists()


def test_those_that_may_be_chosen_are_loaded_first(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def load(path: Path) -> Engine:
        loaded.append(path)
        return Engine(1000 if len(loaded) == 1 else 0)

    monkeypatch.setattr(race, "EngineBackend", load)
    first, second = race.race(built.path, runs=2, least_db=100)
    assert [path.stem for path in loaded] == ["published", "model"]
    assert (first.chosen, first.admitted, second.admitted) == (True, True, False)


def test_the_command_names_what_was_left_out(
    built: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines(monkeypatch, model=0)
    monkeypatch.setattr(command, "build", lambda *args, **options: [])
    options: dict[str, Any] = {
        **dict.fromkeys(("workspace_mib", "level", "dla", "opt_batch", "least_db")),
        **dict.fromkeys(("again", "overwrite"), False),
        "raced": True,
    }
    command.run(built.path, (), **options, as_json=False)
    said = capsys.readouterr()
    assert f"w8a4-float32 was left out of the race: {FULL}" in " ".join(said.err.split())
    assert "left out" in said.out
    assert "chosen" in said.out
    command.run(built.path, (), **options, as_json=True)
    *_, last = json.loads(capsys.readouterr().out)["race"]
    assert (last["form"], last["ms"], last["error"]) == ("w8a4-float32", None, FULL)
