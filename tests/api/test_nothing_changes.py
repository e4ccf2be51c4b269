"""Whatever is given to a verb is as before afterwards, and networks of all kinds go through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

import waveedge
from waveedge.cost import profile

IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    """BatchNorm and dropout in train mode, one activation under two names, hooks, a dictionary as
    output, and an argument that nobody has to give."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.PReLU()
        self.again = nn.Sequential(nn.Conv2d(8, 8, 1), self.act, nn.Dropout(0.5))
        self.head = nn.Conv2d(8, 4, 1)
        self.stem.requires_grad_(False)
        self.stem.register_forward_hook(lambda _module, _inputs, output: output * 2)
        self.head.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        if mask is not None:
            x = x * mask
        y = self.again(self.act(self.norm(self.stem(x))))
        return {"out": self.head(y), "features": y}


def computed_weights() -> nn.Module:
    """Weights that are computed at every call: weight_norm old and new, spectral_norm of both
    kinds, which changes a buffer at every call in train mode."""
    return nn.Sequential(
        weight_norm(nn.Conv2d(3, 8, 3, padding=1)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
        nn.ReLU(),
        spectral_norm(nn.Conv2d(8, 8, 1)),
        nn.BatchNorm2d(8),
        parametrizations.spectral_norm(nn.Conv2d(8, 4, 1)),
    )


def state(model: nn.Module) -> dict[str, Any]:
    """All that a verb could change, in values that can be compared."""
    modules = dict(model.named_modules(remove_duplicate=False))
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {
            name: [len(value) for key, value in vars(module).items() if key.endswith("_hooks")]
            for name, module in modules.items()
        },
        "kinds": {name: type(module) for name, module in modules.items()},
        "parametrized": [n for n, module in modules.items() if parametrize.is_parametrized(module)],
        "tensors": {
            name: (id(t), t.data_ptr(), t._version, t.device, t.dtype, t.requires_grad, t.grad)
            for name, t in tensors.items()
        },
        "values": {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()},
        "random": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.mark.parametrize("make", [Shared, computed_weights], ids=["shared", "computed"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_nothing_that_is_given_changes(
    make: Callable[[], nn.Module], training: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, images = make().train(training), IMAGES.clone()
    model.spec = waveedge.ModelSpec(family="custom", input_size=(16, 16))
    verbs: dict[str, Callable[[], Any]] = {
        "inspect": lambda: waveedge.inspect(model, (16, 16)),
        "profile": lambda: profile(model, (16, 16)),
    }
    if training:
        verbs |= {
            "compress": lambda: waveedge.compress(model, images, bits=8).report.quality.snr_db,
            "export": lambda: waveedge.export(model, tmp_path / "out", images=images),
        }
    before = state(model)
    for name, verb in verbs.items():
        result = verb()
        after = state(model)
        assert {key: after[key] == before[key] for key in after} == dict.fromkeys(after, True), name
        assert torch.equal(images, IMAGES), name
        if name == "compress":
            assert result > 20
        if name == "export":
            assert result.verification["figures"]["snr_db"] > 100
