"""Published wavelet layers inside a user's network. The stand-ins here follow their names."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pywt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from waveedge.models.adopt import adopt_published
from waveedge.models.wavemix_blocks import LadderBlock
from waveedge.nn import DWT2d, IDWT2d, PublishedWCC
from waveedge.nn import WTConv2d as OwnWTConv2d


def kernels(wavelet: str, channels: int) -> tuple[Tensor, Tensor]:
    low, high, low_back, high_back = (torch.tensor(f) for f in pywt.Wavelet(wavelet).filter_bank)
    pairs = []
    for one, other in ((low.flip(0), high.flip(0)), (low_back, high_back)):
        bands = [torch.outer(a, b) for a in (one, other) for b in (one, other)]
        # Along the width first: low, high along the height, high along the width, both.
        bands = [bands[index] for index in (0, 2, 1, 3)]
        pairs.append(torch.stack(bands)[:, None].repeat(channels, 1, 1, 1))
    return pairs[0], pairs[1]


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class WTConv2d(nn.Module):
    def __init__(self, channels: int, side: int, levels: int, stride: int, wavelet: str) -> None:
        super().__init__()
        analysis, synthesis = kernels(wavelet, channels)
        self.wt_levels, self.stride = levels, stride
        self.wt_filter = nn.Parameter(analysis, requires_grad=False)
        self.iwt_filter = nn.Parameter(synthesis, requires_grad=False)
        self.base_conv = nn.Conv2d(channels, channels, side, padding="same", groups=channels)
        self.base_scale = Scale(channels)
        wide = 4 * channels
        self.wavelet_convs = nn.ModuleList(
            nn.Conv2d(wide, wide, side, padding="same", groups=wide, bias=False)
            for _ in range(levels)
        )
        self.wavelet_scale = nn.ModuleList(Scale(wide) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_scale(self.base_conv(x)) + self.level(x, 0)
        return y[..., :: self.stride, :: self.stride]

    def level(self, low: Tensor, index: int) -> Tensor:
        height, width = low.shape[-2:]
        channels, border = low.shape[1], self.wt_filter.shape[-1] // 2 - 1
        low = F.pad(low, (0, width % 2, 0, height % 2))
        bands = F.conv2d(low, self.wt_filter, stride=2, padding=border, groups=channels)
        mixed = self.wavelet_scale[index](self.wavelet_convs[index](bands))
        if index + 1 < self.wt_levels:
            mixed = mixed.clone()
            mixed[:, ::4] += self.level(bands[:, ::4], index + 1)
        y = F.conv_transpose2d(mixed, self.iwt_filter, stride=2, padding=border, groups=channels)
        return y[..., :height, :width]


class HalfWTConv2d(WTConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


HalfWTConv2d.__name__ = "WTConv2d"


def replaced(layer: nn.Module) -> tuple[nn.Module, str]:
    """Adopt a layer inside a network; give its replacement and the sentence about it."""
    model, (adoption,) = adopt_published(nn.Sequential(nn.Identity(), copy.deepcopy(layer)))
    assert adoption.name == "1"
    assert adoption.published == type(layer).__name__
    return model[1], str(adoption)


def assert_equal(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(other.double()(x), one.double()(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(24, 32), (19, 13)])
@pytest.mark.parametrize(("side", "levels", "stride"), [(5, 1, 1), (3, 3, 1), (5, 2, 2)])
def test_wtconv_is_taken_over(side: int, levels: int, stride: int, size: tuple[int, int]) -> None:
    layer = WTConv2d(4, side, levels, stride, "haar")
    own, sentence = replaced(layer)
    assert isinstance(own, OwnWTConv2d)
    assert sentence == "1 (WTConv2d): taken over as waveedge's WTConv2d"
    assert_equal(layer, own, torch.randn(2, 4, *size, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_weights_keep_their_type_and_every_digit(dtype: torch.dtype) -> None:
    layer = WTConv2d(4, 3, 2, 1, "haar").double()
    for parameter in layer.base_conv.parameters():
        parameter.data.add_(1e-9 * torch.randn_like(parameter))
    layer.to(dtype).train()
    own, _ = replaced(layer)
    assert isinstance(own, OwnWTConv2d)
    assert own.training
    published = layer.state_dict()
    for name, tensor in own.state_dict().items():
        assert torch.equal(tensor, published[name])
        assert tensor.dtype == dtype


def test_wtconv_of_an_older_release_is_taken_over() -> None:
    class Older(WTConv2d):
        """Its stride is a lambda that holds the very module, so a copy cannot change its type."""

        def __init__(self) -> None:
            super().__init__(4, 3, 1, 2, "haar")
            self.stride_filter = nn.Parameter(torch.ones(4, 1, 1, 1), requires_grad=False)
            self.do_stride = lambda x: F.conv2d(x, self.stride_filter, stride=2, groups=4)

        def forward(self, x: Tensor) -> Tensor:
            full = self.base_scale(self.base_conv(x)) + self.level(x, 0)
            strided: Tensor = self.do_stride(full)
            return strided

    Older.__name__ = "WTConv2d"
    layer = Older()
    own, _ = replaced(layer)
    assert isinstance(own, OwnWTConv2d)
    x = torch.randn(1, 4, 9, 12)
    torch.testing.assert_close(own(x), layer(x))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (WTConv2d(4, 3, 1, 1, "db2"), "its wavelet is not Haar"),
        (HalfWTConv2d(4, 3, 1, 1, "haar"), "would compute something else"),
    ],
)
def test_a_wtconv_without_equal_stays(layer: nn.Module, reason: str) -> None:
    own, sentence = replaced(layer)
    assert type(own) is type(layer)
    assert "left as it is" in sentence
    assert reason in sentence


def test_a_layer_with_hooks_stays() -> None:
    layer = WTConv2d(4, 3, 1, 1, "haar")
    layer.base_conv.register_forward_hook(lambda module, args, y: 2 * y)
    own, sentence = replaced(layer)
    assert type(own) is WTConv2d
    assert "hooks" in sentence


def test_a_layer_whose_weights_are_computed_stays() -> None:
    layer = WTConv2d(4, 3, 1, 1, "haar")
    parametrizations.weight_norm(layer.base_conv)
    own, sentence = replaced(layer)
    assert type(own) is WTConv2d
    assert "its weights are not those of a WTConv2d" in sentence


def test_a_foreign_class_of_a_published_name_stays() -> None:
    class WCC(nn.Module):
        wt_filters = iwt_filters = compress_rate = bit_w = bit_a = None

    own, sentence = replaced(WCC())
    assert isinstance(own, WCC)
    assert "left as it is" in sentence


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(40, 56), (45, 51)])
@pytest.mark.parametrize(
    ("levels", "wavelet", "mode"),
    [
        (1, "haar", "zero"),
        (3, "db2", "symmetric"),
        (2, "bior4.4", "periodization"),
        (2, "rbio1.3", "reflect"),
        (1, "sym4", "per"),
        (2, "coif1", "periodic"),
    ],
)
def test_transforms_of_pytorch_wavelets_are_taken_over(
    wavelets: Any, levels: int, wavelet: str, mode: str, size: tuple[int, int], dtype: torch.dtype
) -> None:
    forward = wavelets.DWTForward(levels, wavelet, mode).to(dtype)
    inverse = wavelets.DWTInverse(wavelet, mode).to(dtype)
    model, adoptions = adopt_published(nn.ModuleList([copy.deepcopy(forward), inverse]))
    assert [adoption.replacement for adoption in adoptions] == ["DWT2d", "IDWT2d"]
    x = torch.randn(2, 3, *size, dtype=dtype)
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    low, details = forward(x)
    own_low, own_details = model[0](x)
    for expected, actual in zip((low, *details), (own_low, *own_details), strict=True):
        torch.testing.assert_close(actual, expected, **tolerance)
    torch.testing.assert_close(model[1]((low, details)), inverse((low, details)), **tolerance)


@pytest.mark.parametrize(
    ("wave", "mode", "reason"),
    [
        ("db2", "constant", "'constant' is not a border mode"),
        (([0.6, 0.8], [0.8, -0.6]), "zero", "of no wavelet that PyWavelets names"),
        (([0.6, 0.8], [0.8, -0.6], [1, 1], [1, -1]), "zero", "between rows and columns"),
    ],
)
def test_transforms_without_equal_stay(wavelets: Any, wave: Any, mode: str, reason: str) -> None:
    for layer in (wavelets.DWTForward(1, wave, mode), wavelets.DWTInverse(wave, mode)):
        own, sentence = replaced(layer)
        assert type(own) is type(layer)
        assert reason in sentence


def test_blocks_of_the_wavemix_package_are_taken_over(wavelets: Any) -> None:
    # Like the package, the transforms stand outside the block.
    transforms = [wavelets.DWTForward(J, "db1", "zero") for J in (1, 2)]

    class Level2Waveblock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feedforward1 = self.feed(12, 8)
            self.feedforward2 = self.feed(8, 4)
            self.reduction = nn.Conv2d(8, 2, 1)

        def feed(self, inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, 24, 1),
                nn.GELU(),
                nn.Dropout(0.5),
                nn.Conv2d(24, 6, 1),
                nn.ConvTranspose2d(6, outputs, 4, stride=2, padding=1),
                nn.BatchNorm2d(outputs),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.reduction(x)
            fine, (detail, _) = transforms[0](x)[0], transforms[1](x)[1]
            coarse, (_, coarser) = transforms[1](x)
            deep = self.feedforward2(torch.cat([coarse, coarser.flatten(1, 2)], 1))
            y: Tensor = self.feedforward1(torch.cat([fine, detail.flatten(1, 2), deep], 1))
            return y

    block = Level2Waveblock()
    own, _ = replaced(block)
    assert isinstance(own, LadderBlock)
    assert own.feedforward1[2].p == 0.5
    x = torch.randn(2, 8, 12, 16)
    torch.testing.assert_close(own.eval()(x), block.eval()(x), rtol=0, atol=1e-5)


class WCC(nn.Conv1d):
    """One level, with the transform and the quantizers spelt out."""

    def __init__(self) -> None:
        super().__init__(4, 6, 1)
        self.levels, self.compress_rate, self.bit_w, self.bit_a = 1, 0.5, 4, 8
        self.wt_type = "db1"
        self.wt_filters = nn.Parameter(kernels("haar", 4)[0], requires_grad=False)
        self.iwt_filters = nn.Parameter(kernels("haar", 6)[1], requires_grad=False)
        self.weight_quant, self.act_quant = nn.Module(), nn.Module()
        self.weight_quant.w_alpha = nn.Parameter(torch.tensor(2.5))
        self.act_quant.a_alpha = nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Tensor) -> Tensor:
        bands = F.conv2d(x, self.wt_filters, stride=2, groups=4)
        shape = bands.shape[-2:]
        flat = bands.reshape(x.shape[0], 4, -1)
        chosen = flat.square().sum(1, keepdim=True).topk(flat.shape[2] // 2).indices
        kept = rounded(flat.gather(2, chosen.expand(-1, 4, -1)), self.act_quant.a_alpha, 127)
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        kept = F.conv1d(kept, rounded(weight, self.weight_quant.w_alpha, 7), self.bias)
        y = kept.new_zeros(x.shape[0], 6, flat.shape[2])
        y = y.scatter(2, chosen.expand(-1, 6, -1), kept).reshape(-1, 24, *shape)
        return F.conv_transpose2d(y, self.iwt_filters, stride=2, groups=6)


def rounded(x: Tensor, limit: Tensor, steps: int) -> Tensor:
    return ((x / limit).clamp(-1, 1) * steps).round() / steps * limit


def test_published_wcc_is_taken_over() -> None:
    layer = WCC()
    own, _ = replaced(layer)
    assert isinstance(own, PublishedWCC)
    assert_equal(layer, own, torch.randn(2, 4, 12, 10, dtype=torch.float64))


def test_a_wavelet_unet_computes_the_same_and_keeps_its_sharing(wavelets: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dwt = wavelets.DWTForward(2, "db2", "symmetric")
            self.idwt = wavelets.DWTInverse("db2", "symmetric")
            self.inside = nn.ModuleDict({"mix": WTConv2d(3, 3, 2, 1, "haar")})
            self.again = self.inside["mix"]

        def forward(self, x: Tensor) -> Tensor:
            low, high = self.dwt(self.inside["mix"](x))
            y: Tensor = self.idwt((self.again(low), [None, high[1]]))
            return y

    net = Net().eval()
    random_state = torch.get_rng_state()
    model, adoptions = adopt_published(copy.deepcopy(net))
    assert torch.equal(torch.get_rng_state(), random_state), "the user's seed advanced"
    assert [adoption.name for adoption in adoptions] == ["dwt", "idwt", "inside.mix"]
    assert (type(model.dwt), type(model.idwt)) == (DWT2d, IDWT2d)
    assert model.again is model.inside["mix"]
    assert not any(module.training for module in model.modules())
    x = torch.randn(1, 3, 33, 30)
    torch.testing.assert_close(model(x), net(x), rtol=0, atol=1e-5)
    program = torch.export.export(model, (x,)).run_decompositions({})
    torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=1e-5)


def test_a_network_that_is_one_published_layer_is_replaced() -> None:
    layer = WTConv2d(4, 3, 1, 1, "haar")
    own, (adoption,) = adopt_published(copy.deepcopy(layer))
    assert isinstance(own, OwnWTConv2d)
    assert str(adoption) == "the network (WTConv2d): taken over as waveedge's WTConv2d"


def test_own_layers_are_no_published_ones() -> None:
    model = nn.Sequential(OwnWTConv2d(4, 4), PublishedWCC(4, 4), DWT2d())
    layers = list(model)
    assert adopt_published(model) == (model, [])
    assert list(model) == layers
