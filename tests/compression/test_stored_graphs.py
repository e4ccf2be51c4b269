"""What a graph may hold comes back as it was; what it may not hold is named when it is saved."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.artifact import save_artifact
from waveedge.compression.compress import Compressed
from waveedge.compression.reparameterize import FramePool
from waveedge.compression.reparameterize.phases import PhaseToSpace, SpaceToPhase
from waveedge.errors import ExportError
from waveedge.nn import (
    ActivationQuantizer,
    ChannelScale,
    DWT2d,
    PublishedWCC,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    QuantizedLinear,
    Shift,
    SigmoidGELU,
    WaveletCompressedConv2d,
    WTConv2d,
)
from waveedge.normalise.layers import GlobalMean
from waveedge.serialize import describe_graph, fill, rebuild_graph, stored_tensors
from waveedge.serialize.arguments import decode, encode
from waveedge.serialize.functions import function_named, name_of_function
from waveedge.serialize.kinds import _KINDS

IMAGE = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5


def again(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph as it comes back from what a file would hold of it."""
    record, names = describe_graph(graph)
    stored = stored_tensors(graph, names)
    records = {name: item[1] for name, item in stored.items()}
    # Through JSON, as in a file.
    record = type(record).model_validate_json(record.model_dump_json())
    rebuilt = rebuild_graph(record, records)
    fill(rebuilt, {name: item[0] for name, item in stored.items()}, records)
    return rebuilt


def calls(layer: nn.Module) -> fx.GraphModule:
    """A graph that calls one layer."""
    graph = fx.Graph()
    graph.output(graph.call_module("layer", (graph.placeholder("x"),)))
    return fx.GraphModule({"layer": layer}, graph).eval()


LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.AdaptiveAvgPool2d((2, None)),
    lambda: nn.AdaptiveMaxPool2d(2),
    lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False, divisor_override=3),
    lambda: nn.BatchNorm2d(4, eps=1e-3, momentum=None),
    lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
    lambda: nn.ChannelShuffle(2),
    lambda: nn.ConstantPad2d((1, 0, 2, 1), 0.5),
    lambda: nn.Conv2d(4, 6, (3, 1), stride=2, padding="valid", bias=False),
    lambda: nn.Conv2d(4, 4, 3, padding="same", groups=2, padding_mode="reflect"),
    lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2, padding_mode="circular"),
    lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=4),
    lambda: nn.ELU(0.5),
    lambda: nn.Flatten(2),
    lambda: nn.GELU("tanh"),
    lambda: nn.GLU(1),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.Hardswish(inplace=True),
    lambda: nn.Hardtanh(-0.25, 0.25),
    lambda: nn.InstanceNorm2d(4, affine=True),
    lambda: nn.LayerNorm((8, 8), bias=False),
    lambda: nn.LayerNorm(8, elementwise_affine=False),
    lambda: nn.LeakyReLU(0.3),
    lambda: nn.Linear(8, 3),
    lambda: nn.LocalResponseNorm(2),
    lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    lambda: nn.PReLU(4),
    lambda: nn.PixelShuffle(2),
    lambda: nn.PixelUnshuffle(2),
    lambda: nn.RMSNorm(8, eps=None),
    lambda: nn.ReflectionPad2d(2),
    lambda: nn.Softmax(1),
    lambda: nn.Softplus(2, 10),
    lambda: nn.Unflatten(1, (2, 2)),
    lambda: nn.Unfold(2, stride=2),
    lambda: nn.Upsample(scale_factor=(2.0, 1.5), mode="bilinear", align_corners=False),
    lambda: nn.Upsample(size=(5, 7)),
    lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    lambda: nn.ZeroPad2d((1, 2, 3, 0)),
    lambda: ActivationQuantizer(5, zero_point=-16),
    lambda: with_pixels(ActivationQuantizer(8, zero_is_open=False)),
    lambda: ChannelScale(4, 0.5),
    lambda: FramePool((1, 2), (0, 1)),
    lambda: GlobalMean(),
    lambda: PhaseToSpace(2),
    lambda: PublishedWCC(4, 6, levels=2, ratio=0.3, bias=True, weight_bits=3, activation_bits=5),
    lambda: QuantizedConv2d.from_float(nn.Conv2d(4, 3, 3, padding=1), 3),
    lambda: QuantizedConv2d(4, 3, 1, weight_bits=32),
    lambda: QuantizedConvTranspose2d.from_float(nn.ConvTranspose2d(4, 6, 2, 2, groups=2), 8),
    lambda: QuantizedLinear.from_float(nn.Linear(8, 3, bias=False), 2),
    lambda: Shift(0.5, 1 / 255),
    lambda: SigmoidGELU(),
    lambda: SpaceToPhase(),
    lambda: WTConv2d(4, 4, 3, stride=2, wt_levels=2, wt_type="db2"),
    lambda: WaveletCompressedConv2d(4, 5, levels=2, ratio=0.4, wavelet="db2", tiles=3),
    lambda: WaveletCompressedConv2d(4, 4, bias=False, weight_bits=32, activation_bits=32),
    lambda: nn.Conv2d(4, 4, 3).double(),
    lambda: nn.Conv2d(4, 4, 3).requires_grad_(False),
]


def with_pixels(quantizer: ActivationQuantizer) -> ActivationQuantizer:
    """A quantizer of an image."""
    quantizer.pixel_step = 1 / 255
    return quantizer


@pytest.mark.parametrize("position", range(len(LAYERS)))
def test_a_layer_comes_back(position: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(position)
        layer = LAYERS[position]()
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1:
                tensor.data.add_(torch.rand_like(tensor) * 1e-3)
    graph = calls(layer.eval())
    back = again(graph)
    x = IMAGE.to(next(iter(layer.parameters()), IMAGE).dtype)
    assert torch.equal(back(x), graph(x))
    assert type(back.layer) is type(layer)
    assert repr(back.layer) == repr(layer)
    assert [p.requires_grad for p in back.parameters()] == [
        p.requires_grad for p in graph.parameters()
    ]


def test_layers_that_give_or_take_several_tensors_come_back() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.embedding = nn.Embedding(5, 8)
            self.pool = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            y = x[:, 0]
            places = self.embedding(torch.arange(8) % 5)
            y = self.attention(y + places, y, y)[0]
            return y.unsqueeze(1) + self.pool(x)[0].mean()

    graph = fx.symbolic_trace(Net().eval())
    assert torch.equal(again(graph)(IMAGE), graph(IMAGE))


def test_a_transform_comes_back() -> None:
    graph = fx.Graph()
    bands = graph.call_module("transform", (graph.placeholder("x"),))
    graph.output(graph.call_module("inverse", (bands,)))
    from waveedge.nn import IDWT2d

    layers = {"transform": DWT2d(2, "sym4", "reflect"), "inverse": IDWT2d("sym4", "reflect")}
    module = fx.GraphModule(layers, graph).eval()
    assert torch.equal(again(module)(IMAGE), module(IMAGE))


def test_every_kind_of_layer_can_be_made() -> None:
    """The arguments of a kind are its constructor's, under the present version of torch."""
    import inspect

    for kind in _KINDS.values():
        known = inspect.signature(kind.make).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        assert takes_all or kind.arguments.keys() <= known.keys(), kind.layer


def test_a_graph_of_operators_comes_back() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)
            self.register_buffer("mask", torch.tensor([True, False, True, True]))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)[..., ::2, 1:]
            y = F.interpolate(y, scale_factor=2, mode="bilinear")
            y = torch.where(self.mask[:, None, None], y, F.softmax(y, dim=1))
            y = torch.fft.irfft2(torch.fft.rfft2(y))
            return torch.cat([y, y.clamp(min=0)], 1).to(torch.float64).amax((2, 3))

    net = Net().eval()
    exported = torch.export.export(net, (IMAGE,), strict=False).run_decompositions({})
    # The lifted tensors of an export are inputs; here they are read from the module.
    lifted = {**exported.graph_signature.inputs_to_parameters}
    lifted |= exported.graph_signature.inputs_to_buffers
    graph = fx.Graph()
    places: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.name in lifted:
            places[node] = graph.get_attr(lifted[node.name])
        elif node.users or node.op == "output":  # what is only checked needs no node
            places[node] = graph.node_copy(node, places.__getitem__)
            places[node].meta = {}
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (output.args[0][0],)
    module = fx.GraphModule(net, graph)
    assert torch.equal(module(IMAGE), net(IMAGE))
    assert torch.equal(again(module)(IMAGE), net(IMAGE))


@pytest.mark.parametrize(
    "name",
    ["torch.cat", "F.interpolate", "operator.getitem", "math.ceil", "aten.add.Tensor",
     "aten.convolution.default", "aten._softmax.default", "aten.sym_size.int",
     "aten.scaled_dot_product_attention.default"],
)  # fmt: skip
def test_a_function_has_one_name(name: str) -> None:
    assert name_of_function(function_named(name)) == name


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "eval", "torch.load", "torch.hub.load", "operator.methodcaller",
     "operator.attrgetter", "aten.add_.Tensor", "aten.rand.default", "aten.dropout.default",
     "aten.from_file.default", "aten.empty.memory_format", "aten.add.out", "aten.add.overloads",
     "aten.__class__.__init__", "aten._print.default", "aten.item.default", "prims.add.default",
     "aten.add", "", "torch.cat\n"],
)  # fmt: skip
def test_no_graph_may_call(name: str) -> None:
    with pytest.raises(ValueError, match="no graph may call"):
        function_named(name)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 7, -1.5, "bilinear", [1, [2.0]], (1, (2,)), slice(None, 4, 2), ...),
        *(math.inf, -math.inf, torch.float16, torch.device("cpu"), torch.channels_last),
        *(torch.strided, {"a": (1, None)}),
    ],
)
def test_an_argument_comes_back(value: object) -> None:
    assert decode(encode(value)) == value
    assert type(decode(encode(value))) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        *({"tuple": 3}, {"slice": [1, 2]}, {"dtype": "load"}, {"device": "cuda:0"}, {"float": "1"}),
        *({"node": "x"}, {"node": ["x"]}, {"x": 1}, {}, {"tuple": [], "slice": []}, 2**63),
        *("x" * 10_001, {"constant": ["..."]}),
    ],
)
def test_an_argument_of_no_kind_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="an argument is"):
        decode(value)


class Unknown(nn.Module):
    """A layer of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _with_parts() -> nn.Module:
    wavelet = WTConv2d(4, 4)
    wavelet.base_conv = nn.Identity()  # type: ignore[assignment]
    return wavelet


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda graph: set_layer(graph, Unknown()), "act: it is a Unknown"),
        (lambda graph: set_layer(graph, nn.Bilinear(4, 4, 4)), "act: it is a Bilinear"),
        (lambda graph: set_layer(graph, _with_parts()), "changed by hand"),
        (lambda graph: set_node(graph, "cat", target=torch.rand), "cat: it calls rand"),
        (
            lambda graph: set_node(graph, "cat", op="call_method", target="numpy"),
            "cat: it calls the method numpy",
        ),
        (lambda graph: set_node(graph, "cat", kwargs={"dim": object()}), "cat: an argument is"),
        (
            lambda graph: setattr(graph, "gain", nn.Parameter(torch.ones(1) * 1j)),
            "gain is a tensor",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_named(
    own_compressed: Compressed, tmp_path: Path, change: Callable[[Any], object], says: str
) -> None:
    graph = copy.deepcopy(own_compressed.graph)
    change(graph)
    with pytest.raises(ExportError, match=says):
        save_artifact(dataclasses.replace(own_compressed, graph=graph), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def set_layer(graph: fx.GraphModule, layer: nn.Module) -> None:
    graph.act = layer


def set_node(graph: fx.GraphModule, name: str, **changes: Any) -> None:
    node = next(node for node in graph.graph.nodes if node.name == name)
    for field, value in changes.items():
        setattr(node, field, value)
