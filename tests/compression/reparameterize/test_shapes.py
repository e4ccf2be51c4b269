"""Shapes from memory are those that torch gives."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, fx, nn

import waveedge
from waveedge.compression.reparameterize import Shapes, reparameterize, shapes
from waveedge.normalise import normalise

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def traced(network: nn.Module) -> fx.GraphModule:
    class Leaves(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, name: str) -> bool:
            return True

    return fx.GraphModule(network, Leaves().trace(network))


def by_name(graph: fx.GraphModule, image: tuple[int, ...]) -> dict[str, object]:
    return {node.name: shape for node, shape in Shapes(graph, image).items()}


def test_layers_that_differ_in_one_number_have_shapes_of_their_own() -> None:
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(3, 5, 3),
        nn.ConvTranspose2d(3, 4, 3),
        nn.ConvTranspose2d(3, 4, 3, output_padding=1, stride=2),
        nn.AvgPool2d(2),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=3),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2)),
    ]
    for layer in layers * 2:
        for size in ((9, 11), (10, 12)):
            graph = traced(nn.Sequential(layer))
            *_, found = Shapes(graph, (1, 3, *size)).values()
            assert found == tuple(layer(torch.zeros(1, 3, *size)).shape)


def test_arguments_count() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            rows, columns = torch.cat([x, x], 2), torch.cat([x, x], 3)
            first, second = x[:, :, 1:], x[:, :, :, ::2]
            index = torch.argmax(x, 1)
            return rows, columns, first, second, index, torch.flatten(x, 1), torch.flatten(x, 2)

    graph = fx.symbolic_trace(Net())
    for size in ((6, 8), (6, 8), (7, 9)):
        *_, found = Shapes(graph, (1, 3, *size)).values()
        assert found == [tuple(y.shape) for y in Net()(torch.zeros(1, 3, *size))]


def test_what_torch_did_not_write_is_asked_every_time() -> None:
    """A user's layer may keep count, and a hook may do anything."""

    class Counts(nn.Module):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            Counts.seen += 1
            return x[:, :, Counts.seen :]

    graph = traced(nn.Sequential(Counts()))
    found = [list(Shapes(graph, (1, 3, 9, 9)).values())[-1] for _ in range(3)]
    assert found == [(1, 3, 9 - n, 9) for n in (1, 2, 3)]
    hooked = nn.Identity()
    hooked.register_forward_hook(lambda module, args, x: x[:, :1])
    graph = traced(nn.Sequential(hooked))
    assert list(Shapes(graph, (1, 3, 9, 9)).values())[-1] == (1, 1, 9, 9)


def test_networks_have_the_shapes_that_they_had() -> None:
    for name in ("wavemix_seg_l2", "wtconvnext_micro", "wavemix_sisr_l1"):
        model = waveedge.load(GOLDEN / f"{name}.pth")
        plain = normalise(model, (3, 64, 64))  # type: ignore[arg-type]
        for graph in (plain, reparameterize(plain, (64, 64), judge=lambda _: 0.0)):
            known = by_name(graph, (1, 3, 64, 64))
            shapes._seen.clear()
            assert by_name(graph, (1, 3, 64, 64)) == known
