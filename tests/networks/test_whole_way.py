"""Chosen kinds of networks go the whole way: compressed, saved, loaded, exported, verified."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.compress import compress
from waveedge.export.write_bundle import export_model
from waveedge.models.build import attach_spec
from waveedge.normalise import flat_outputs
from waveedge.reference import Reference
from waveedge.spec import ModelSpec

from .test_normal_form import made

# What others are known for ends with their normal form, in test_normal_form.py.
NAMES = (
    "computed weights",
    "shared",
    "nested outputs",
    "restoration",
    "mobile",
    "shuffle",
    "unet",
    "channel attention",
    "dynamic",
)
FLOATS = {
    "channel attention": ("scaled_dot_product_attention", "matmul", "matmul_1"),
    "dynamic": ("conv2d_1",),
}
"""What stays in floating point, by name: products of two computed values."""


@pytest.mark.parametrize("name", NAMES)
def test_compressed_and_exported(name: str, tmp_path: Path) -> None:
    spec = ModelSpec(family="custom", task="restoration", input_size=(16, 16))
    network = attach_spec(made(name), spec)
    images = open_images(None, spec=spec, size=(16, 16), limit=4, held_out=2)
    small = compress(network, images=images, bits=8)
    assert small.report.quality.snr_db > 20

    report, floats = small.report, FLOATS.get(name, ())
    assert {row.name for row in report.layers if not row.in_integers} == set(floats)
    assert sum(row.macs for row in report.layers) == report.macs_after
    coverage = report.coverage() or ""
    assert all(layer in coverage for layer in floats)
    assert bool(coverage) == bool(floats)

    waveedge.save_artifact(small, tmp_path / "a.safetensors")
    image = torch.from_numpy(images.held_out[0])
    loaded = waveedge.load_artifact(tmp_path / "a.safetensors")
    wanted = flat_outputs(small(image))
    assert all(map(torch.equal, wanted, flat_outputs(loaded(image))))

    bundle = export_model(
        loaded.graph, tmp_path / "b", target="ort", images=images.held_out, published=network
    )
    session = waveedge.Session(bundle.path)
    reference = Reference(network, images.held_out)
    assert reference.error(lambda x: _run(session, x)) < 0.25


def _run(session: waveedge.Session, image: torch.Tensor) -> list[torch.Tensor]:
    found = session.run(image.numpy())
    return [torch.from_numpy(y) for y in (found if isinstance(found, tuple) else (found,))]
