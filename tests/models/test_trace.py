"""Every network must survive symbolic tracing, batch left open."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from waveedge.models import build, identify
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
