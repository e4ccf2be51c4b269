"""How near an engine must come to its form, where onnxruntime can tell and where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from waveedge.errors import ArtifactError, VerificationError
from waveedge.runtime.backend import TensorInfo
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.engine_check import compare

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)


class Engine:
    """Doubles its images, with noise of so many decibels below."""

    parallel = name = ""
    outputs = ("twice",)

    def __init__(self, decibels: float, batch: int = 1) -> None:
        self.inputs = [TensorInfo("x", (batch, 3, 8, 8), np.dtype(np.float32))]
        self._noise = np.float32(1 + 10 ** (-decibels / 20))

    def run(self, *arrays: Any) -> list[Any]:
        return [2 * arrays[0] * self._noise]

    def streams(self, count: int) -> list[Engine]:
        return [self] * count


def bundle(folder: Path, images: str | None = "images.npy") -> Bundle:
    np.save(folder / "images.npy", IMAGES)
    np.savez(folder / "form.npz", 2 * IMAGES)
    return Bundle(folder, {"images": images})


def form(snr_db: float) -> dict[str, Any]:
    return {
        "name": "published-bfloat16",
        "file": "form.onnx",
        "precision": "bfloat16",
        "snr_db": snr_db,
        "outputs": "form.npz",
    }


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("own", "found", "holds"),
    [(60, 31, True), (60, 29, False), (25, 19.5, True), (25, 18.5, False)],
)
def test_bfloat16_may_be_twice_as_far_as_the_form_itself(
    tmp_path: Path, own: float, found: float, holds: bool, batch: int
) -> None:
    """Where the form is nearer than 36 dB, 30 dB are asked for, as of all others."""
    if holds:
        assert compare(bundle(tmp_path), form(own), Engine(found, batch)) == pytest.approx(
            found, abs=0.1
        )
        return
    with pytest.raises(VerificationError, match=f"is {found:.1f} dB from its form"):
        compare(bundle(tmp_path), form(own), Engine(found, batch))


@pytest.mark.parametrize(
    ("name", "bits", "least"),
    [
        ("published-float32", 8, 50),  # TF32 rounds factors, and is at 68 dB or more
        ("rewritten-float32", 8, 50),
        ("w8a8-float32", 32, 50),
        ("w8a8-float32", 8, 30),  # ties of integers break in another way
        ("published-float16", 8, 30),
        ("w8a8-float16", 8, 30),
    ],
)
def test_float32_without_integers_must_come_nearer(
    tmp_path: Path, make_graph: Callable[..., Path], name: str, bits: int, least: float
) -> None:
    make_graph(
        tmp_path / "form.onnx",
        [onnx.helper.make_node("Add", ["image", "image"], ["twice"])],
        (1, 3, 8, 8),
        ["twice"],
    )
    np.save(tmp_path / "images.npy", IMAGES)
    own = {"name": "w8a8-float32", "file": "model.onnx"}
    asked = {"weight_bits": bits, "activation_bits": bits}
    fields = {"images": "images.npy", "model": "model.onnx", "forms": [own]}
    whole = Bundle(tmp_path, {**fields, "layers": [{"requested": asked}]})
    one = {
        "name": name,
        "file": "form.onnx",
        "precision": name.rpartition("-")[2],
        "snr_db": 100.0,
        "outputs": None,
    }
    assert compare(whole, one, Engine(least + 0.5)) == pytest.approx(least + 0.5, abs=0.1)
    with pytest.raises(VerificationError, match=f"dB from onnxruntime .*, asked for {least}"):
        compare(whole, one, Engine(least - 0.5))


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    assert compare(bundle(tmp_path, None), form(60), Engine(10)) is None
    whole = bundle(tmp_path)
    (tmp_path / "form.npz").write_bytes(b"PK\3\4 cut")
    with pytest.raises(ArtifactError, match=r"form\.npz cannot be read"):
        compare(whole, form(60), Engine(60))
