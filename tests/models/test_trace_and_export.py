"""Every network must survive symbolic tracing and torch's dynamo exporter, batch left open."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import fx, nn

from waveedge.export.operator_table import one_table_of_operators
from waveedge.models import WaveMixConfig, build, identify
from waveedge.models.families import describe
from waveedge.models.settings import configure

from .conftest import Golden, golden_names, golden_settings


class LayerTracer(fx.Tracer):
    """Stop at layers, look into networks."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = type(m).__module__.startswith(("torch.nn.", "waveedge.nn."))
        return layer and not isinstance(m, nn.Sequential)


def load_golden(golden: Golden, name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    state, x, y = golden(name)
    spec = identify({key: tensor.shape for key, tensor in state.items()})
    model = build(configure(spec, golden_settings(name)))
    model.load_state_dict(state)
    return model, x, y


@pytest.mark.parametrize("name", golden_names())
def test_traced_graph_computes_the_same_for_any_batch(golden: Golden, name: str) -> None:
    model, x, y = load_golden(golden, name)
    graph = fx.GraphModule(model, LayerTracer().trace(model))
    with torch.no_grad():
        torch.testing.assert_close(graph(x), y, rtol=0, atol=1e-5 * max(1.0, float(y.abs().max())))
        assert graph(torch.cat([x, x, x])).shape[0] == 3 * x.shape[0]
    assert graph.state_dict().keys() == model.state_dict().keys()


def exported(model: nn.Module, x: torch.Tensor, path: Path) -> onnxruntime.InferenceSession:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with one_table_of_operators():
        torch.onnx.export(
            model,
            (x,),
            path,
            dynamo=True,
            opset_version=20,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("name", ["wavemix_seg_l2", "wavemix_v1_token_mixer"])
def test_exported_network_computes_the_same_for_any_batch(
    golden: Golden, tmp_path: Path, name: str
) -> None:
    model, x, _ = load_golden(golden, name)
    batch = torch.cat([x, x.flip(-1), x])
    session = exported(model, batch[:2], tmp_path / "model.onnx")
    assert {node.name for node in session.get_inputs()} == {session.get_inputs()[0].name}
    for images in (batch[:1], batch):
        (y,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(y, model(images).numpy(), rtol=0, atol=1e-5)


def test_export_of_pixelshuffle_blocks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = WaveMixConfig(
        depth=1,
        dim=8,
        ff_channels=8,
        num_classes=3,
        block="pixelshuffle",
        mult=4,
        stem="strided",
        stride=1,
        head="expand",
        head_widths=(4,),
    )
    model, x = build(describe(config)), torch.rand(2, 3, 12, 16)
    (y,) = exported(model, x, tmp_path / "model.onnx").run(None, {"image": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(y, model(x).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["wtconvnext_os8", "wavemixsr_v2"])
def test_export_of_other_networks(golden: Golden, tmp_path: Path, name: str) -> None:
    model, x, y = load_golden(golden, name)
    session = exported(model, torch.cat([x, x.flip(-1)]), tmp_path / "model.onnx")
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(actual, y, rtol=0, atol=1e-5 * max(1.0, float(y.abs().max())))
