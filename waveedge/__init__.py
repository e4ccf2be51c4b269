"""waveedge: compress wavelet CNNs, export them to ONNX and TensorRT, measure them on devices."""

__version__ = "0.1.0"
