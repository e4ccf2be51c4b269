"""Where quantizers go, rule by rule (numbers as in waveedge.compression.placement)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import FramePool, Shapes, reparameterize
from waveedge.nn import ActivationQuantizer, QuantizedConv2d, QuantizedLinear, WTConv2d
from waveedge.normalise import normalise


class Residual(nn.Module):
    """stem -> (a -> GELU -> b) + shortcut -> head, the shape of most blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 16, 1)
        self.act = nn.GELU()
        self.b = nn.Conv2d(16, 8, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.b(self.act(self.a(x))) + x)  # type: ignore[no-any-return]


class Shuffled(nn.Module):
    """A pixel shuffle between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.middle = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.shuffle(self.first(x))))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Linear layers around a GELU with a residual, normalised: the shape of a ConvNeXt block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        y = self.fc2(F.gelu(self.fc1(self.norm(x)))) + x
        return self.out(y)  # type: ignore[no-any-return]


class Pieces(nn.Module):
    """A map put together from pieces, and joined with another along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Conv2d(3, 8, 1)
        self.bottom = nn.Conv2d(3, 8, 1)
        self.aside = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([self.top(x[:, :, :4]), self.bottom(x[:, :, 4:])], dim=2)
        return self.last(torch.cat([self.aside(whole), whole], 1))  # type: ignore[no-any-return]


class Clamped(nn.Module):
    """A convolution with the ReLU that runtimes fuse into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.first(x)))  # type: ignore[no-any-return]


def placed(model: nn.Module, channels: int = 3, **fields: object) -> fx.GraphModule:
    graph = normalise(model, (channels, 8, 8))
    place_quantizers(graph, Shapes(graph, (1, channels, 8, 8)), make_recipe(dict(fields)))
    return graph


def chain(graph: fx.GraphModule) -> list[str]:
    """What runs, in order: module names, and ``q8(value)`` for a quantizer of 8 bits."""
    steps = []
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, ActivationQuantizer):
            source = node.all_input_nodes[0]
            steps.append(f"q{module.bits}({source.name})")
        else:
            steps.append(node.name)
    return steps


def reads(graph: fx.GraphModule, name: str) -> list[int]:
    """Bits of the quantizers that node ``name`` reads from (32 for floats)."""
    node = next(node for node in graph.graph.nodes if node.name == name)
    bits = []
    for source in node.all_input_nodes:
        module = graph.get_submodule(str(source.target)) if source.op == "call_module" else None
        bits.append(module.bits if isinstance(module, ActivationQuantizer) else 32)
    return bits


def test_8_bits_put_one_quantizer_on_every_value_that_integers_touch() -> None:
    assert chain(placed(Residual(), bits=8)) == [
        "q8(x)",
        "stem",
        "q8(stem)",
        "a",
        "q8(a)",
        "act",
        "q8(act)",
        "b",
        "q8(b)",
        "add",
        "q8(add)",
        "head",
        "q8(head)",
    ]


def test_rule_1_low_bits_spare_the_first_and_the_last_layer() -> None:
    graph = placed(Residual(), bits=4, weight_bits=4)
    assert reads(graph, "stem") == [8]
    assert reads(graph, "head") == [8]
    assert reads(graph, "b") == [4]
    assert isinstance(graph.stem, QuantizedConv2d)
    assert graph.stem.weight_bits == 8
    assert graph.b.weight_bits == 4


def test_rule_5_a_reader_of_fewer_bits_gets_its_own_quantizer() -> None:
    graph = placed(Residual(), bits=4)
    assert reads(graph, "a") == [4]
    assert reads(graph, "add") == [8, 8]


def test_rule_4_moved_values_share_their_quantizer() -> None:
    graph = placed(Shuffled(), bits=8)
    quantizers = [
        node.target
        for node in graph.graph.nodes
        if node.op == "call_module" and "quantizer" in str(node.target)
    ]
    assert quantizers.count("quantizer_first") == 2
    assert reads(graph, "shuffle") == [8]
    assert reads(graph, "middle") == [8]


def test_rule_4_a_value_that_is_only_moved_to_low_bits_has_low_bits_itself() -> None:
    graph = placed(Shuffled(), bits=4)
    assert reads(graph, "shuffle") == [4]
    assert reads(graph, "middle") == [4]


def test_rule_4_pieces_share_the_grid_of_the_map_that_they_make() -> None:
    graph = placed(Pieces(), bits=8)
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    # Both pieces and the whole; then what is concatenated alone, with the concatenation.
    assert called.count("quantizer_top") == 3
    assert called.count("quantizer_aside") == 2
    assert "quantizer_bottom" not in called
    # The whole has another reader, so it keeps its own grid and is requantized.
    sources = [
        str(node.target)
        for node in next(node for node in graph.graph.nodes if node.name == "cat_1").all_input_nodes
    ]
    assert sources == ["quantizer_aside", "quantizer_top"]


def test_rule_4_pieces_that_are_read_at_low_bits_have_low_bits() -> None:
    graph = placed(Pieces(), bits=4)
    assert reads(graph, "cat") == [8, 8]
    assert reads(graph, "aside") == [4]
    assert reads(graph, "last") == [8]


def test_rule_2_and_3_linear_layers_leave_sums_and_norms_in_floats() -> None:
    graph = placed(Mlp(), channels=8, bits=8)
    assert reads(graph, "fc1") == [8]
    assert reads(graph, "fc2") == [8]
    assert reads(graph, "gelu") == [32]
    assert reads(graph, "add") == [32, 32]
    assert reads(graph, "norm") == [32]
    assert isinstance(graph.fc1, QuantizedLinear)


def test_a_fused_relu_is_quantized_behind_not_before() -> None:
    graph = placed(Clamped(), bits=8)
    assert reads(graph, "relu") == [32]
    assert reads(graph, "last") == [8]


def test_skipped_layers_keep_their_floats() -> None:
    graph = placed(Residual(), bits=8, skip=["b"])
    assert not isinstance(graph.b, QuantizedConv2d)
    assert reads(graph, "b") == [32]
    # The sum stays in floats; of its inputs, only the stem's output was written as integers.
    assert reads(graph, "add") == [32, 8]
    assert reads(graph, "head") == [8]


def test_32_bits_place_nothing_and_weight_bits_alone_touch_weights_alone() -> None:
    assert not any("quantizer" in name for name, _ in placed(Residual(), bits=32).named_modules())
    graph = placed(Residual(), bits=32, weight_bits=4)
    assert not any(isinstance(module, ActivationQuantizer) for module in graph.modules())
    assert isinstance(graph.a, QuantizedConv2d)


@pytest.mark.parametrize("model", [Residual(), Shuffled(), Clamped(), Pieces()])
def test_the_quantized_graph_computes_nearly_the_same(model: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8)
    graph = placed(model, bits=8)
    for module in graph.modules():
        if isinstance(module, ActivationQuantizer):
            module.scale.data.fill_(6 / 127)
    with torch.no_grad():
        reference = model.eval()(x)
        error = (graph.eval()(x) - reference).abs().max() / reference.abs().max()
    assert 0 < float(error) < 0.1


def test_placement_is_the_same_every_time() -> None:
    keys = [list(placed(Residual(), bits=4).state_dict()) for _ in range(2)]
    assert keys[0] == keys[1]


class Wavelet(nn.Module):
    """A residual stream that a wavelet convolution reads, then two 1x1 convolutions; a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.spatial = nn.ModuleList(WTConv2d(8, 8, 3) for _ in range(2))
        self.mix = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))
        self.act, self.head = nn.GELU(), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for spatial, mix in zip(self.spatial, self.mix, strict=True):
            x = x + mix(spatial(x))
        return self.head(self.act(x))  # type: ignore[no-any-return]


def quantized_layers(
    size: tuple[int, int] = (8, 8), **fields: object
) -> tuple[fx.GraphModule, dict[str, str]]:
    graph = reparameterize(Wavelet(), size)
    recipe = make_recipe({"bits": 8, **fields})
    return graph, place_quantizers(graph, Shapes(graph, (1, 3, *size)), recipe)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])  # odd maps are padded on the way
def test_a_wavelet_convolution_stays_in_floating_point_and_so_does_its_stream(
    size: tuple[int, int],
) -> None:
    graph, left_alone = quantized_layers(size)
    assert len(left_alone) == 2 * 10  # four bands twice, the way back, the convolution of the map
    assert all(name.startswith("spatial.") for name in left_alone)
    (stream,) = next(node for node in graph.graph.nodes if node.name == "act").all_input_nodes
    assert reads(graph, stream.name) == [32, 8]  # itself, and what a convolution adds to it
    assert reads(graph, "spatial_1_base_conv") == [32]
    if size == (9, 7):
        assert reads(graph, "pad_1") == [32]
    assert reads(graph, "mix_1") == reads(graph, "head") == [8]


def test_a_recipe_can_give_a_wavelet_convolution_bits() -> None:
    graph, left_alone = quantized_layers(layers={"spatial.0.*": {"bits": 8}})
    assert {name.split(".")[1] for name in left_alone} == {"1"}
    assert reads(graph, "spatial_0_base_conv") == [8]


def test_the_mean_of_a_quantized_map_reads_the_integers() -> None:
    """Read in floats, the map would be kept in memory until the head of the network."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act = nn.Conv2d(3, 8, 1), nn.GELU()
            self.first, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
            self.frame = FramePool((0, 0), (0, 0))

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.stem(x))
            y: Tensor = self.last(self.frame(x) + self.frame(self.first(x)))
            return y

    graph = placed(Net(), bits=8)
    assert reads(graph, "frame") == [8]
