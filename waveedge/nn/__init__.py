"""Layers: wavelet transforms, wavelet convolutions, wavelet-compressed convolutions, quantizers."""

from waveedge.nn.copies import PixelCopy
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
from waveedge.nn.selection import Selection
from waveedge.nn.selections import SELECTIONS
from waveedge.nn.selections.topk import WaveletCompressedConv2d
from waveedge.nn.shift import Shift
from waveedge.nn.wtconv import ChannelScale, WTConv2d

__all__ = [
    "SELECTIONS",
    "ActivationQuantizer",
    "ChannelScale",
    "DWT2d",
    "IDWT2d",
    "PixelCopy",
    "PublishedWCC",
    "QuantizedConv2d",
    "QuantizedConvTranspose2d",
    "QuantizedLinear",
    "Selection",
    "Shift",
    "SigmoidGELU",
    "WTConv2d",
    "WaveletCompressedConv2d",
    "WeightQuantizer",
    "activation_quantizer",
    "weight_quantizer",
]
