"""What a bundle is compared with: on a GPU its network as published in float16, or the fastest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.errors import ArtifactError
from waveedge.filetypes import RACE
from waveedge.runtime import benchmark, engine, engine_manifest, race
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.manifest import MANIFEST, seal
from waveedge.runtime.rival import form_of, rival_of

DEVICE = {"library": "tensorrt 10.3", "gpu": "Orin", "compute_capability": "8.7"}

QUALITY = {
    "w8a8-float32": ("model.onnx", 41.0),
    "w8a8-float16": ("w8a8-float16.onnx", 40.8),
    "published-float32": ("published.onnx", 120.0),
    "published-float16": ("published-float16.onnx", 69.0),
    "published-bfloat16": ("published-bfloat16.onnx", 48.0),
}


@pytest.fixture
def on_board(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Engines of a board: file -> "" where it fits, else why it does not."""
    engines = {"model.engine": "", "published.engine": "", "published-float16.engine": ""}

    def engine_of(bundle: Bundle, onnx: str, core: int | None = None) -> Path | None:
        path = engine_manifest.engine_path(bundle, onnx, core)
        if engines.get(path.name):
            raise ArtifactError(f"{path.name} {engines[path.name]}")
        return path if path.name in engines else None

    monkeypatch.setattr(engine, "can_run_engines", lambda: True)
    monkeypatch.setattr(engine_manifest, "engine_of", engine_of)
    monkeypatch.setattr(race, "engine_of", engine_of)
    monkeypatch.setattr(race, "device_of", lambda library: DEVICE)
    return engines


@pytest.fixture
def forms(tmp_path: Path, make_bundle: Callable[..., Path], make_fields: Any) -> Path:
    """A bundle with five forms."""
    folder = make_bundle(tmp_path / "net.trt", target="trt")
    described = []
    for name, (file, quality) in QUALITY.items():
        if not (folder / file).exists():
            shutil.copy(folder / "published.onnx", folder / file)
        precision = name.rpartition("-")[2]
        described.append(
            {"name": name, "file": file, "precision": precision, "snr_db": quality, "outputs": None}
        )
    fields = make_fields(folder, target="trt", forms=described)
    (folder / MANIFEST).write_text(json.dumps(seal(fields)))
    return folder


def write_race(folder: Path, *laps: tuple[str, int | None, bool], **changes: Any) -> None:
    """What a race leaves: laps as (file, DLA core, admitted), the fastest first."""
    result = {
        "format": race._FORMAT,
        "bundle": open_bundle(folder).manifest["sha256"],
        "chosen": "model.onnx",
        "dla_core": None,
        "device": DEVICE,
        "forms": [
            {"file": file, "dla_core": core, "admitted": admitted, "ms": 1.0}
            for file, core, admitted in laps
        ],
        **changes,
    }
    (folder / RACE).write_text(json.dumps(result))


def rival(folder: Path) -> tuple[str, str]:
    """The file that a bundle is compared with, and the note."""
    found = rival_of(folder, "auto")
    assert found is not None
    return found.path.name, found.note


@pytest.mark.usefixtures("on_board")
def test_an_engine_is_compared_with_the_published_one_in_float16(forms: Path) -> None:
    assert rival(forms) == ("published-float16.engine", "")


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "there is no engine of published-float16 here (waveedge build "),
        ("was built for another GPU", "published-float16.engine was built for another GPU."),
    ],
)
def test_without_one_that_fits_it_is_that_in_float32_and_is_told(
    forms: Path, on_board: dict[str, str], state: str | None, why: str
) -> None:
    del on_board["published-float16.engine"]
    if state is not None:
        on_board["published-float16.engine"] = state
    file, note = rival(forms)
    assert file == "published.engine"
    assert note.startswith(f"B is published-float32: {why}")


def test_one_that_is_worse_than_the_compressed_network_is_no_rival(
    forms: Path, make_fields: Any, on_board: dict[str, str]
) -> None:
    found = json.loads((forms / MANIFEST).read_text())["forms"]
    for form in found:
        form["snr_db"] = {"published-float16": 40.0}.get(form["name"], form["snr_db"])
    (forms / MANIFEST).write_text(json.dumps(seal(make_fields(forms, target="trt", forms=found))))
    assert rival(forms) == ("published.engine", "")


def test_a_race_says_which_is_fastest(forms: Path, on_board: dict[str, str]) -> None:
    on_board["published-bfloat16.engine"] = on_board["published-float16.dla0.engine"] = ""
    laps = [
        ("model.onnx", None, True),
        ("published-bfloat16.onnx", None, False),
        ("published-float16.onnx", 0, True),
        ("published-float16.onnx", None, True),
    ]
    write_race(forms, *laps)
    assert rival(forms) == ("published-float16.dla0.engine", "")
    write_race(forms, ("published-bfloat16.onnx", None, True), *laps)
    assert rival(forms) == ("published-bfloat16.engine", "")
    write_race(forms, ("published.onnx", None, True), *laps, device={**DEVICE, "gpu": "Thor"})
    assert rival(forms) == ("published-float16.engine", ""), "a race of another board"
    strange = {"file": "x", "dla_core": [], "admitted": True, "ms": 1.0}
    cut = {"file": "published.onnx", "dla_core": None, "admitted": True, "ms": None}
    for edited in ([1], 7, [{"file": []}], [strange], [cut]):
        write_race(forms, forms=edited)
        assert rival(forms) == ("published-float16.engine", "")


def test_without_any_that_fits_the_first_reason_is_an_error(
    forms: Path, on_board: dict[str, str]
) -> None:
    on_board |= dict.fromkeys(("published.engine", "published-float16.engine"), "is damaged")
    with pytest.raises(ArtifactError, match=r"published\.engine is damaged"):
        rival_of(forms, "auto")
    del on_board["published.engine"], on_board["published-float16.engine"]
    file, note = rival(forms)
    assert file == "published.onnx"
    assert note.startswith("B is published.onnx: there is no engine of published-float16 here")


def test_where_no_engine_runs_it_is_the_file(forms: Path, on_board: dict[str, str]) -> None:
    assert rival_of(forms, "cpu").path.name == "published.onnx"  # type: ignore[union-attr]
    del on_board["model.engine"]
    assert rival(forms) == ("published.onnx", "")


def test_forms_and_precisions_of_files(forms: Path) -> None:
    manifest = open_bundle(forms).manifest
    assert form_of(forms / "model.engine", manifest) == ("w8a8-float32", "float32")
    assert form_of(forms / "w8a8-float16.dla1.engine", manifest) == ("w8a8-float16", "float16")
    assert form_of(forms / "published.onnx", manifest) == ("published-float32", "float32")
    assert form_of(forms / "model.engine", None) == (None, None)


@pytest.mark.usefixtures("driver")
def test_the_report_names_form_and_precision_of_both(
    forms: Path, on_board: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in on_board:
        (forms / file).write_bytes(b"enterprise")
    result = benchmark(forms, runs=1, warmup=0, memory=False)
    assert result.titles() == ("A: net (w8a8-float32)", "B: published-float16")
    values = result.to_dict()
    assert [values[side]["form"] for side in "ab"] == ["w8a8-float32", "published-float16"]
    assert [values[side]["precision"] for side in "ab"] == ["float32", "float16"]
    assert values["b"]["name"] == "published"
    assert values["b"]["bits"] == {"requested": "w32a32", "executed": "w16a16"}
    write_race(forms, ("published-float16.onnx", None, True), chosen="published-float16.onnx")
    result = benchmark(forms, runs=1, warmup=0, memory=False)
    assert "A and B are one engine: the race chose the network as published." in result.notes
    del on_board["published-float16.engine"]
    (forms / RACE).unlink()
    result = benchmark(forms, runs=1, warmup=0, memory=False)
    assert result.titles()[1] == "B: published-float32"
    assert any(note.startswith("B is published-float32: there is no") for note in result.notes)


def test_elsewhere_the_published_file_is_in_float32(bundle: Path) -> None:
    result = benchmark(bundle, runs=1, warmup=0, memory=False)
    assert result.titles() == ("A: net", "B: published")
    values = result.to_dict()
    assert [values[side]["form"] for side in "ab"] == [None, None]
    assert [values[side]["precision"] for side in "ab"] == ["float32", "float32"]
