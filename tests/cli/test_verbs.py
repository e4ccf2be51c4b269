"""The four verbs as typed, on small published networks, inside this process: Python and torch start
in seconds. As processes they run where a shell or a signal matters, in test_interrupted.py."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from waveedge.runtime import Session

from .conftest import GOLDEN, Run
from .inside import Result, run_inside

SMALL = ("--input-size", "32x32")

Inside = Callable[..., Result]


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """Run ``waveedge ARGUMENTS`` in the test's own folder, inside this process."""
    return partial(run_inside, tmp_path)


def test_the_three_lines_of_the_readme_work_as_typed(
    run: Run, inside: Inside, model: Path, tmp_path: Path
) -> None:
    size = ("--input-size", "16x16")
    compressed = inside("compress", "model.pt", "--bits", "4", "--wcc-ratio", "0.5", *size)
    assert compressed.code == 0, compressed.err
    assert "model.w8a4-wcc50.safetensors" in compressed.out
    assert "BOPs" in compressed.out
    assert "assumed (shapes cannot tell; --set changes it): " in compressed.err

    exported = inside("export", "--target", "trt")
    assert exported.code == 0, exported.err
    assert "newest artifact here: model.w8a4-wcc50.safetensors" in exported.err
    bundle = tmp_path / "model.w8a4-wcc50.trt"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["target"] == "trt"
    assert manifest["baseline"] == "published.onnx"
    assert (bundle / "build_engine.sh").is_file() or manifest["engine"]

    # A process without torch, as on a device.
    measured = run("bench", "--runs", "5", "--images", bundle / "images.npy")
    assert measured.code == 0, measured.err
    assert "newest bundle here: model.w8a4-wcc50.trt" in measured.err
    assert "CPU time, median" in measured.out
    assert "input 1x3x16x16 (images), 5 interleaved pairs" in measured.out
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")

    session = Session(bundle)
    output = session.run(np.zeros((1, 3, 16, 16), np.float32))
    assert isinstance(output, np.ndarray)
    assert output.shape == (1, 3, 32, 32)
    assert model.is_file()


def test_tune_takes_the_newest_artifact_and_its_own_network(
    inside: Inside, model: Path, tmp_path: Path
) -> None:
    size = ("--input-size", "16x16")
    assert inside("compress", "model.pt", "--bits", "4", "--no-tune", *size).code == 0
    foreign = tmp_path / "model.w8a4.tuned.safetensors.tuning"
    foreign.write_text("mine")
    refused = inside("tune", "--steps", "12")
    assert refused.code == 1
    assert "is not the state of a tuning that waveedge wrote" in refused.err
    assert foreign.read_text() == "mine"
    foreign.unlink()
    eaten = inside("tune", "--steps", "12", "--out", "model.pt", "--overwrite")
    assert eaten.code == 1
    assert "model.pt is an input of this command" in eaten.err
    tuned = inside("tune", "--steps", "12", "--json")
    assert tuned.code == 0, tuned.err
    assert "Tuning the newest artifact here: model.w8a4.safetensors" in tuned.err
    report = json.loads(tuned.out)
    assert report["artifact"] == "model.w8a4.tuned.safetensors"
    assert report["tuned"]["snr_db"] >= report["tuned"]["snr_db_before"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.pt",
        "model.w8a4.safetensors",
        "model.w8a4.tuned.safetensors",
    }
    exported = inside("export", "model.w8a4.tuned.safetensors")
    assert exported.code == 0, exported.err
    assert "snr_db_to_your_network" in exported.out


def one_block(folder: Path) -> None:
    """A classifier of one block, as ``model.pt``."""
    state = torch.load(GOLDEN / "wavemix_cls_l1_strided.pth", weights_only=True)
    torch.save(
        {k: v for k, v in state.items() if not k.startswith("layers.1.")}, folder / "model.pt"
    )


def test_tune_learns_from_labels_for_minutes(inside: Inside, tmp_path: Path) -> None:
    one_block(tmp_path)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "labels.csv").write_text(
        "".join(f"{index}.png,{index % 2}\n" for index in range(8))
    )
    assert inside("compress", "model.pt", "--bits", "4", "--no-tune", *SMALL).code == 0
    line = ("tune", "--data", "photos", "--labels", "labels.csv")
    eaten = inside(*line, "--out", "labels.csv", "--overwrite")
    assert (eaten.code, "labels.csv is an input" in eaten.err) == (1, True), eaten.err
    tuned = inside(*line, "--minutes", "0.01")
    assert tuned.code == 0, tuned.err
    assert "about 0.01 minutes: " in tuned.err
    told = r"tuned in \d+ steps: .* dB, \d+\.\d% to \d+\.\d% as labelled, on 2 held-out images"
    assert re.search(told, tuned.out), tuned.out


def test_tune_without_the_float_network_is_one_message(
    inside: Inside, model: Path, tmp_path: Path
) -> None:
    assert inside("compress", "model.pt", "--no-tune", "--input-size", "16x16").code == 0
    model.rename(tmp_path / "elsewhere.pth")
    refused = inside("tune", "--steps", "12")
    assert refused.code == 1
    assert "model.pt, is not found" in refused.err
    assert "--teacher MODEL" in refused.err
    assert inside("tune", "--steps", "12", "--teacher", "elsewhere.pth").code == 0


@pytest.mark.parametrize("family", ["wavemix_cls_l3_patch", "wtconvnext_micro", "wavemix_seg_l2"])
def test_inspect_tells_what_a_checkpoint_is(inside: Inside, family: str) -> None:
    result = inside("inspect", GOLDEN / f"{family}.pth", "--json", "--input-size", "64x64")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert facts["family"] == family.split("_")[0]
    assert facts["parameters"] > 1000
    assert sum(layer["multiply_adds"] for layer in facts["layers"]) == facts["multiply_adds"]
    assert {item["name"] for item in facts["wcc"]} <= {layer["name"] for layer in facts["layers"]}


def test_inspect_prints_what_it_assumes(inside: Inside, model: Path) -> None:
    assert "stride=1" in inside("inspect", model).out
    assert "stride=2" in inside("inspect", model, "--set", "stride=2").out


def test_a_recipe_reproduces_a_run_to_the_byte(inside: Inside, model: Path, tmp_path: Path) -> None:
    given = ("--bits", "6", "--skip", "expand.*", "--tune", "3")
    size = ("--input-size", "16x16")
    flags = inside("compress", model, *given, "--json", *size)
    assert flags.code == 0, flags.err
    recipe = json.loads(flags.out)["recipe"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    again = inside("compress", model, "--recipe", "recipe.yaml", "--out", "b.safetensors", *size)
    assert again.code == 0, again.err
    first = tmp_path / "model.w8a6.safetensors"
    assert first.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_collapsed_quality_is_said_loudly(inside: Inside, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "wavemix_seg_l2.pth", tmp_path / "model.pt")
    flags = (
        "--bits",
        "2",
        "--weight-bits",
        "2",
        "--wcc-ratio",
        "0.05",
        "--wcc-levels",
        "1",
        "--uniform",
        "--no-tune",
    )
    result = inside("compress", "model.pt", *flags, *SMALL, "--json")
    assert result.code == 0, result.err
    assert "WARNING: Quality collapsed" in result.err
    assert "raise --wcc-ratio" in result.err
    quality = json.loads(result.out)["quality"]
    assert quality["agreement"] < 0.9


def test_a_checkpoint_exports_without_compression(
    inside: Inside, model: Path, tmp_path: Path
) -> None:
    for extra, name in (((), "fast"), (("--no-reparameterize",), "plain")):
        result = inside("export", model, "--target", "ort", "--out", name, *SMALL, *extra)
        assert result.code == 0, result.err
        assert "stride=1" in result.err
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    fast, plain = (Session(tmp_path / name).run(x) for name in ("fast", "plain"))
    assert isinstance(fast, np.ndarray)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_allclose(fast, plain, atol=1e-4)
    sizes = [(tmp_path / name / "model.onnx").read_bytes() for name in ("fast", "plain")]
    assert sizes[0] != sizes[1]


def test_one_file_for_every_size_as_typed(inside: Inside, model: Path, tmp_path: Path) -> None:
    dynamic = ("export", "model.pt", "--input-size", "dynamic", "--set", "input_size=32x32")
    exported = inside(*dynamic, "--out", "any")
    assert exported.code == 0, exported.err
    assert "takes: heights and widths that are multiples of" in exported.out
    session = Session(tmp_path / "any")
    for size in ((32, 32), (40, 72)):
        assert np.asarray(session.run(np.zeros((1, 3, *size), np.float32))).shape[2] == 2 * size[0]
    measured = inside("bench", "any", "--runs", "3", "--json", "--input-size", "40x72")
    assert json.loads(measured.out)["input_shape"] == [1, 3, 40, 72]
    refused = inside(*dynamic, "--target", "trt")
    assert (refused.code, "needs --max-size HxW" in refused.err) == (2, True), refused.err


def test_autotune_exports_the_form_that_won(inside: Inside, tmp_path: Path) -> None:
    one_block(tmp_path)
    result = inside("export", "model.pt", "--autotune", *SMALL)
    assert result.code == 0, result.err
    record = json.loads((tmp_path / "model.ort" / "manifest.json").read_text())["autotune"]
    first, *others = record["candidates"]
    best = {key: first[key] for key in ("form", "left_out")}
    for trial in others:  # times are this machine's; what follows from them is not
        assert trial["against"] == best
        if trial["interval"][1] < 1:
            best = {key: trial[key] for key in best}
    assert record["chosen"] == best
    assert {"form": "published", "left_out": []} in [{k: t[k] for k in best} for t in others]
    assert any(trial["left_out"] for trial in others)
    assert f"kept: {best['form']}" in result.out
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    bundle = tmp_path / "model.ort"
    outputs = [Session(path).run(x) for path in (bundle, bundle / "published.onnx")]
    np.testing.assert_allclose(*outputs, atol=1e-4)


def test_any_network_by_its_factory(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.GELU(),\n"
        "        torch.nn.Conv2d(8, 8, 1), torch.nn.GELU(), torch.nn.Conv2d(8, 3, 1))\n"
    )
    layers = {"0": nn.Conv2d(3, 8, 3), "2": nn.Conv2d(8, 8, 1), "4": nn.Conv2d(8, 3, 1)}
    torch.save(nn.ModuleDict(layers).state_dict(), tmp_path / "mine.pt")
    flags = ("--arch", "mine:net", "--wcc-ratio", "0.5", "--wcc-levels", "2")
    result = inside("compress", "mine.pt", *flags, *SMALL, "--json")
    assert result.code == 0, result.err
    decisions = dict(json.loads(result.out)["decisions"])
    assert decisions["2"].startswith("1x1 on 32x32")
    assert decisions["4"] == "last layer"
    alone = inside("export", "--out", "alone.ort")
    assert alone.code == 0, alone.err
    assert "cannot be loaded as the baseline" in alone.err
    exported = inside("export", "--arch", "mine:net")
    assert exported.code == 0, exported.err
    assert "baseline" not in exported.err


def test_version_and_help(inside: Inside) -> None:
    assert inside("--version").out.startswith("waveedge ")
    for verb in ("inspect", "compress", "export", "bench"):
        shown = inside(verb, "--help")
        assert shown.code == 0
        assert f"Example: waveedge {verb}" in shown.out
