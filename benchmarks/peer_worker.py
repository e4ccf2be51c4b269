"""Run one peer on one model, in the environment that the peer needs.

    python -I peer_worker.py TOOL MODEL.onnx CALIBRATION.npz OUT.onnx '{"option": "value"}'

Imports nothing of waveedge or of this package. CALIBRATION.npz holds ``images``, float32
(count, C, H, W). Prints the versions of the packages involved as JSON on the last line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

COMPUTE = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxslim", "nncf", "nvidia-modelopt", "onnx")


def onnxruntime(
    source: str, images: Any, out: str, *, method: str, compute_only: bool = False
) -> None:
    """``quantize_static`` as its documentation advises for x86 with VNNI: QDQ, U8S8, channels."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / "prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            out,
            _Reader(source, images),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod[method],
            op_types_to_quantize=COMPUTE if compute_only else None,
        )


def onnxslim(source: str, images: Any, out: str) -> None:
    """The optimised graph, in floating point."""
    import onnxslim as package  # type: ignore[import-not-found]

    package.slim(source, out)


def nncf(source: str, images: Any, out: str, *, preset: str, transformer: bool = False) -> None:
    """Post-training quantization for CPUs, with the bias correction that is on by default."""
    import nncf as package  # type: ignore[import-not-found]

    feeds = package.Dataset(list(_feeds(source, images)))
    onnx.save(
        package.quantize(
            onnx.load(source),
            feeds,
            preset=package.QuantizationPreset(preset),
            target_device=package.TargetDevice.CPU,
            subset_size=len(images),
            model_type=package.ModelType.TRANSFORMER if transformer else None,
        ),
        out,
    )


def modelopt(source: str, images: Any, out: str, *, method: str) -> None:
    """int8 on the CPU; what is not quantized stays float32 (the default is float16)."""
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]

    quantize(
        source,
        quantize_mode="int8",
        calibration_data={_input(source): images},
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=out,
    )


TOOLS: dict[str, Callable[..., None]] = {
    "onnxruntime": onnxruntime,
    "onnxslim": onnxslim,
    "nncf": nncf,
    "modelopt": modelopt,
}


class _Reader:
    """What onnxruntime takes for a CalibrationDataReader."""

    def __init__(self, source: str, images: Any) -> None:
        self._feeds = _feeds(source, images)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _feeds(source: str, images: Any) -> Iterator[dict[str, Any]]:
    name = _input(source)
    return iter([{name: images[index : index + 1]} for index in range(len(images))])


def _input(source: str) -> str:
    return str(onnx.load(source, load_external_data=False).graph.input[0].name)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Run the tool that the command line names."""
    tool, source, calibration, out, options = sys.argv[1:]
    images = np.load(calibration)["images"]
    TOOLS[tool](source, images, out, **json.loads(options))
    onnx.checker.check_model(out)
    print(f"\n{json.dumps(_versions())}")


if __name__ == "__main__":
    main()
