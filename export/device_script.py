"""The one command that builds a bundle's engine on the device."""

from __future__ import annotations

from pathlib import Path

from waveedge.runtime.engine_builder import profile_shapes
from waveedge.runtime.sizes import SizeRange

__all__ = ["SCRIPT", "write_build_script"]

SCRIPT = "build_engine.sh"

# TensorRT 10.3 needs --stronglyTyped and measures without CUDA graphs and with transfers unless
# told; 11 accepts these three flags as names of its defaults. So one command fits both, and both
# print comparable times. 8.6 has no such networks; 10 and 11 are known by the version that they
# print, too, as a help need not list what is deprecated.
_TEMPLATE = """\
#!/bin/sh
# Builds this bundle's engines with this device's TensorRT (10.3 or later).
# Where waveedge is installed: waveedge build, which builds every form, checks it, and leaves
# engines that a session of the bundle takes. Arguments are its own: --form w8a8-float16
# Elsewhere, or with --trtexec first: trtexec builds model.engine alone, and times it. Arguments are
# its own, for example: ./build_engine.sh --trtexec --skipInference
# Such an engine has no manifest: a session takes it by its own name, and not as the bundle's.
set -eu
cd "$(dirname "$0")"
if [ "${{1:-}}" = --trtexec ]; then
    shift
elif (cd / && python3 -c 'import waveedge') 2>/dev/null; then
    bundle=$(pwd)
    cd / && exec python3 -m waveedge build "$bundle" "$@"
fi
PATH="$PATH:/usr/src/tensorrt/bin"
command -v trtexec >/dev/null || {{
    echo "trtexec is not installed; on a Jetson: sudo apt install nvidia-jetpack" >&2
    exit 1
}}
case "$(trtexec --help 2>&1)" in
    *stronglyTyped* | *"[TensorRT v1"[0-9]*) ;;
    *)
        echo "this trtexec knows no strongly typed networks, as 8.6 of JetPack 6.0:" \
            "update to JetPack 6.1 or later, which has TensorRT 10.3" >&2
        exit 1
        ;;
esac
exec trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped \\
    --profilingVerbosity=detailed --useCudaGraph --noDataTransfers{shapes} "$@"
"""


def write_build_script(
    folder: Path, name: str, shape: list[int | str], sizes: SizeRange | None = None
) -> Path:
    """Writes ``build_engine.sh`` into a bundle.

    Args:
        folder: the bundle.
        name: the input's name.
        shape: the input's shape; a string stands for a free batch of 1 to MAX_BATCH, height, width.
        sizes: of the images, where height and width are free.
    """
    shapes = "".join(
        f" \\\n    --{end}Shapes={name}:{'x'.join(map(str, found))}"
        for end, found in zip(("min", "opt", "max"), profile_shapes(shape, sizes), strict=False)
    )
    path = folder / SCRIPT
    path.write_text(_TEMPLATE.format(shapes=shapes), encoding="utf-8")
    path.chmod(0o755)
    return path
