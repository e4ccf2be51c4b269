"""Layers: wavelet transforms, wavelet convolutions, wavelet-compressed convolutions, quantizers."""

from waveedge.nn.dwt import DWT2d, IDWT2d
from waveedge.nn.gelu import SigmoidGELU
from waveedge.nn.published import PublishedWCC
from waveedge.nn.quantized import QuantizedConv2d, QuantizedConvTranspose2d, QuantizedLinear
from waveedge.nn.quantizers import (
    ActivationQuantizer,
    WeightQuantizer,
    activation_quantizer,
    weight_quantizer,
)
from waveedge.nn.shift import Shift
from waveedge.nn.wcc import WaveletCompressedConv2d
from waveedge.nn.wtconv import ChannelScale, WTConv2d

__all__ = [
    "ActivationQuantizer",
    "ChannelScale",
    "DWT2d",
    "IDWT2d",
    "PublishedWCC",
    "QuantizedConv2d",
    "QuantizedConvTranspose2d",
    "QuantizedLinear",
    "Shift",
    "SigmoidGELU",
    "WTConv2d",
    "WaveletCompressedConv2d",
    "WeightQuantizer",
    "activation_quantizer",
    "weight_quantizer",
]
