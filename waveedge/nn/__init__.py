"""Layers: wavelet transforms, wavelet convolutions, wavelet-compressed convolutions, quantizers."""

from waveedge.nn.dwt import DWT2d, IDWT2d
from waveedge.nn.quantized import QuantizedConv2d, QuantizedConvTranspose2d, QuantizedLinear
from waveedge.nn.quantizers import (
    ActivationQuantizer,
    WeightQuantizer,
    activation_quantizer,
    weight_quantizer,
)

__all__ = [
    "ActivationQuantizer",
    "DWT2d",
    "IDWT2d",
    "QuantizedConv2d",
    "QuantizedConvTranspose2d",
    "QuantizedLinear",
    "WeightQuantizer",
    "activation_quantizer",
    "weight_quantizer",
]
