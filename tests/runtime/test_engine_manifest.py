"""Which engines a session of a bundle takes, and what it says of those that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from waveedge.errors import ArtifactError
from waveedge.runtime import conditions, race
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.conditions import clocks, engine_notes
from waveedge.runtime.engine_manifest import engine_of, read_engine, sidecar
from waveedge.runtime.race import chosen_engine
from waveedge.runtime.system_files import SystemFiles


def edit(engine: Path, **changes: Any) -> None:
    manifest = json.loads(sidecar(engine).read_text())
    sidecar(engine).write_text(json.dumps({**manifest, **changes}))


def here(monkeypatch: pytest.MonkeyPatch, mode: str | None, jetpack: str | None) -> None:
    """Set this board's power mode and JetPack."""
    settings = {"power_mode": mode, "jetpack": jetpack}
    monkeypatch.setattr(conditions, "_settings", lambda: settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"onnx_sha256": "0" * 64}, r"was built from another model\.onnx than lies here"),
        ({"engine_sha256": "0" * 64}, "is damaged: its SHA-256 is not the one built"),
        ({"library": "tensorrt 10.7.0"}, r"built by tensorrt 10\.7\.0, and here is tensorrt 10\.3"),
        ({"gpu": "Thor"}, "built for the GPU Thor, and here is Orin"),
        (
            {"compute_capability": "8.6"},
            r"built for compute capability 8\.6, and here is 8\.7",
        ),
    ],
    ids=["onnx", "engine", "library", "gpu", "sm"],
)
def test_an_engine_that_does_not_fit_is_refused_for_each_reason_alone(
    built: Bundle, change: dict[str, str], said: str
) -> None:
    engine = engine_of(built, "model.onnx")
    assert engine is not None
    edit(engine, **change)
    with pytest.raises(ArtifactError, match=said) as refused:
        engine_of(built, "model.onnx")
    assert f"waveedge build {built.path}" in refused.value.hint
    assert engine_of(built, "published.onnx") is not None


@pytest.mark.parametrize(
    "executed",
    [
        "w8a8",
        {"conv1": [8]},
        {"conv1": [8, 1000]},
        {"c" * 1001: [8, 8]},
        {f"conv{number}": [8, 8] for number in range(10_001)},
    ],
)
def test_the_bits_of_layers_are_bounded(built: Bundle, executed: Any) -> None:
    engine = built.path / "model.engine"
    assert read_engine(engine)["executed"] == {"conv1": [8, 8]}
    edit(engine, executed=executed)
    with pytest.raises(ArtifactError, match="executed"):
        read_engine(engine)


@pytest.mark.parametrize(
    ("mode", "jetpack", "said"),
    [
        (None, None, ()),
        ("15W", "6.2", ()),
        ("MAXN", "6.2", ("power mode 15W, and here is MAXN:",)),
        ("15W", "6.2.1", ("JetPack 6.2, and here is 6.2.1:",)),
        ("MAXN", "6.1", ("power mode 15W, and here is MAXN; JetPack 6.2, and here is 6.1:",)),
    ],
)
def test_other_settings_of_the_board_are_said_and_refuse_nothing(
    built: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    mode: str | None,
    jetpack: str | None,
    said: tuple[str, ...],
) -> None:
    here(monkeypatch, mode, jetpack)
    engine = chosen_engine(built)
    assert engine == built.path / "model.engine"
    notes = engine_notes(built, engine)
    assert len(notes) == len(said)
    for note, text in zip(notes, said, strict=True):
        assert f"{engine} was built in {text}" in note
        assert f"waveedge build {built.path} --again" in note


def test_a_race_in_another_power_mode_still_chooses_and_is_named(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced = {
        "format": race._FORMAT,
        "bundle": built.manifest["sha256"],
        "chosen": "published.onnx",
        "dla_core": None,
        "device": race.device_of("tensorrt"),
        "machine": {"power_mode": "15W", "jetpack": "6.2"},
    }
    (built.path / "race.json").write_text(json.dumps(raced))
    here(monkeypatch, "MAXN", "6.2")
    engine = chosen_engine(built)
    assert engine == built.path / "published.engine"
    edit(engine, power_mode="MAXN")
    (note,) = engine_notes(built, engine)
    assert "was raced in power mode 15W, and here is MAXN" in note
    assert f"waveedge build {built.path} --race" in note
    for machine in (None, [], {"power_mode": 3}, {"power_mode": "MAXN"}):
        (built.path / "race.json").write_text(json.dumps({**raced, "machine": machine}))
        assert chosen_engine(built) == engine
        assert engine_notes(built, engine) == []


def test_clocks_are_those_of_the_fastest_core_and_part_of_the_gpu(tmp_path: Path) -> None:
    for name, text in {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1510400",
        "sys/class/devfreq/17000000.gpu/cur_freq": "624750000",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"{text}\n")
    machine: Any = SimpleNamespace(cpu_clock_fixed=False, gpu_clock_fixed=True)
    assert clocks(machine, SystemFiles(tmp_path)) == {
        "cpu_hz": 1_510_400_000,
        "cpu_fixed": 0,
        "gpu_hz": 624_750_000,
        "gpu_fixed": 1,
    }
    machine = SimpleNamespace(cpu_clock_fixed=None, gpu_clock_fixed=None)
    assert set(clocks(machine, SystemFiles(tmp_path / "none")).values()) == {None}
