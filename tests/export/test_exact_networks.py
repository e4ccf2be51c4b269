"""Which exact forms of a network a bundle for TensorRT carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from waveedge.compression.costs import CPU, GPU
from waveedge.export import export_model
from waveedge.export.exact_networks import exact_networks, priced_otherwise
from waveedge.export.tensorrt import TensorRT
from waveedge.models.families.wavemix import WaveMix, WaveMixConfig
from waveedge.normalise import normalise


def super_resolution(width: int) -> nn.Module:
    """WaveMix for twice the size, of one block."""
    torch.manual_seed(0)
    config = WaveMixConfig(
        depth=1,
        dim=width,
        ff_channels=width,
        num_classes=3,
        stem="strided",
        stride=1,
        head="expand",
        head_widths=(24,),
    )
    return WaveMix(config).eval().requires_grad_(False)


def images(size: int) -> list[np.ndarray]:
    return [np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)]


def convolutions(graph: ir.Graph | onnx.GraphProto) -> int:
    nodes = graph.node if isinstance(graph, onnx.GraphProto) else graph
    return sum(node.op_type in ("Conv", "ConvTranspose") for node in nodes)


def test_a_form_without_border_pieces_is_there_where_it_has_fewer_convolutions() -> None:
    """By a CPU's prices borders pay on this small network, by a GPU's they do not."""
    network = super_resolution(48)
    found = exact_networks(network, (3, 64, 64), images(64), cost=CPU)
    assert list(found) == ["rewritten", "borderless"]
    counts = {name: convolutions(model.graph) for name, model in found.items()}
    assert counts["borderless"] < counts["rewritten"]
    assert list(exact_networks(network, (3, 64, 64), images(64), cost=GPU)) == ["rewritten"]


@pytest.mark.parametrize(
    ("width", "size", "forms", "most"),
    [
        (48, 64, ["w32a32", "published", "rewritten"], 10),  # 29 by a CPU's prices
        (96, 96, ["w32a32", "published", "rewritten", "borderless"], 10),
    ],
)
def test_a_bundle_has_the_forms_by_the_prices_of_its_target(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    size: int,
    forms: list[str],
    most: int,
) -> None:
    monkeypatch.setattr(TensorRT, "form_precisions", ("float32",))
    network = super_resolution(width)
    bundle = export_model(
        normalise(network, (3, size, size)),
        tmp_path / "net.trt",
        target="trt",
        images=images(size),
        published=network,
        recipe={"bits": 32},
    )
    found = {form["name"].rpartition("-")[0]: form for form in bundle.manifest["forms"]}
    assert list(found) == forms
    counts = {
        name: convolutions(onnx.load(bundle.path / form["file"]).graph)
        for name, form in found.items()
    }
    assert counts[forms[-1]] <= most
    assert counts[forms[-1]] <= counts["rewritten"]
    assert all(form["snr_db"] > 90 for form in found.values())


def test_a_network_that_is_to_stay_as_published_has_no_other_form(tmp_path: Path) -> None:
    network = super_resolution(8)
    bundle = export_model(
        normalise(network, (3, 16, 16)),
        tmp_path / "net.trt",
        target="trt",
        images=images(16),
        published=network,
    )
    names = {form["name"].rpartition("-")[0] for form in bundle.manifest["forms"]}
    assert "borderless" not in names


def test_integers_placed_by_a_cpus_prices_are_named_for_a_gpu() -> None:
    (note,) = priced_otherwise({"bits": 8}, GPU)
    assert "waveedge compress --cost gpu" in note
    own = {**GPU.model_dump(), "name": "mine"}
    for recipe in (None, {"cost": "gpu"}, {"cost": own}):
        assert priced_otherwise(recipe, GPU) == []
