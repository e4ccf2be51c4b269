"""Let one peer convert, optimise or quantize a network, in the environment that the peer needs.

    python -I peer_worker.py TOOL NETWORK CALIBRATION.npz OUT '{"option": "value"}'

Imports nothing of waveedge or of this package. NETWORK is the published one as ONNX, or what
``torch.export.save`` wrote. CALIBRATION.npz holds ``images``, float32 (count, C, H, W). Prints the
versions of the packages involved as JSON on the last line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

COMPUTE = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
RANKED = 4  # images that NNCF judges every layer on: of 359 layers, that takes minutes
PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxslim", "nncf", "nvidia-modelopt", "onnx"),
    *("openvino", "ncnn", "pnnx", "MNN", "torch"),
)


def onnxruntime(
    source: str,
    images: Any,
    out: str,
    *,
    method: str,
    compute_only: bool = False,
    reduce_range: bool = False,
) -> None:
    """``quantize_static`` as its documentation advises for x86: QDQ, U8S8, channels.

    Without VNNI it advises ``reduce_range``: 7 bits of weights, whose sums do not saturate.
    """
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
            reduce_range=reduce_range,
            calibrate_method=quantization.CalibrationMethod[method],
            op_types_to_quantize=COMPUTE if compute_only else None,
        )


def onnxslim(source: str, images: Any, out: str) -> None:
    """The optimised graph, in floating point."""
    import onnxslim as package  # type: ignore[import-not-found]

    package.slim(source, out)


def openvino(source: str, images: Any, out: str, *, precision: str) -> None:
    """Conversion alone: the precision is chosen when the network is loaded."""
    import openvino as package  # type: ignore[import-not-found, unused-ignore]

    package.save_model(package.convert_model(source), out, compress_to_fp16=False)


def nncf(
    source: str,
    images: Any,
    out: str,
    *,
    preset: str,
    transformer: bool = False,
    max_drop: float | None = None,
) -> None:
    """Post-training quantization for OpenVINO on CPUs, fast bias correction as by default.

    ``max_drop``: layers go back to float until noise / signal at the output is below it.
    """
    import nncf as package  # type: ignore[import-not-found]
    import openvino

    model = openvino.convert_model(source)
    feeds = package.Dataset([image[None] for image in images])
    settings = {
        "preset": package.QuantizationPreset(preset),
        "target_device": package.TargetDevice.CPU,
        "subset_size": len(images),
        "model_type": package.ModelType.TRANSFORMER if transformer else None,
    }
    if max_drop is None:
        quantized = package.quantize(model, feeds, **settings)
    else:
        network = openvino.compile_model(model, "CPU")
        judged = images[:RANKED]
        wanted = [network(image[None])[0] for image in judged]

        def fidelity(compiled: Any, samples: Iterable[Any]) -> float:
            """1 - noise / signal, over the samples' images and outputs of the float network."""
            pairs = [(compiled(image)[0], output) for image, output in samples]
            noise = sum(float(np.square(found - output).sum()) for found, output in pairs)
            return 1 - noise / sum(float(np.square(output).sum()) for _, output in pairs)

        samples = [(image[None], output) for image, output in zip(judged, wanted, strict=True)]
        quantized = package.quantize_with_accuracy_control(
            model,
            calibration_dataset=feeds,
            validation_dataset=package.Dataset(samples),
            validation_fn=fidelity,
            max_drop=max_drop,
            **settings,
        )
    openvino.save_model(quantized, out, compress_to_fp16=False)


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


def ncnn(source: str, images: Any, out: str) -> None:
    """By pnnx, ncnn's own converter, in float32."""
    import pnnx  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "network.onnx"
        copy.write_bytes(Path(source).read_bytes())
        shape = ",".join(map(str, (1, *images.shape[1:])))
        # The program, not the Python function: that one imports torch.
        subprocess.run(
            [pnnx.EXEC_PATH, str(copy), f"inputshape=[{shape}]f32", "fp16=0"], check=True
        )
        for made, kept in ((".ncnn.param", ".param"), (".ncnn.bin", ".bin")):
            shutil.copy(copy.with_name("network" + made), Path(out).with_suffix(kept))


def mnn(source: str, images: Any, out: str) -> None:
    """By MNN's own converter, in float32."""
    arguments = ["-f", "ONNX", "--modelFile", source, "--MNNModel", out, "--bizCode", "waveedge"]
    subprocess.run([str(Path(sys.executable).with_name("mnnconvert")), *arguments], check=True)
    if not Path(out).is_file():  # its exit status is 0 either way
        raise SystemExit("MNN's converter wrote nothing")


def inductor(source: str, images: Any, out: str, *, freeze: bool) -> None:
    """Nothing yet: ``torch.compile`` compiles when the network first runs."""
    shutil.copy(source, out)


TOOLS: dict[str, Callable[..., None]] = {
    tool.__name__: tool
    for tool in (onnxruntime, onnxslim, modelopt, openvino, nncf, ncnn, mnn, inductor)
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
    import onnx

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
    print(f"\n{json.dumps(_versions())}")


if __name__ == "__main__":
    main()
