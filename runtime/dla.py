"""Deep learning accelerators (DLA): engines beside the GPU of AGX Orin, Orin NX and Xavier boards.

A DLA computes in float16 and int8, on one size and one batch. TensorRT drives it up to 10.7 and
again from 11.4.1 on; in every version it says how many cores it sees, which is 0 elsewhere. What a
core does not take runs on the GPU, without a word of TensorRT: which layers is asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waveedge.errors import InputError, MissingDependencyError
from waveedge.runtime.schema import shown

__all__ = ["MOST_LETTERS", "MOST_NAMES", "Placement", "place", "require_dla"]

MOST_NAMES, MOST_LETTERS = 2000, 200


@dataclass(frozen=True)
class Placement:
    """Where the layers of a network run.

    Attributes:
        core: which DLA.
        on_dla: how many of them it runs.
        on_gpu: names of the others, :data:`MOST_NAMES` at most.
    """

    core: int
    on_dla: int
    on_gpu: tuple[str, ...]


def require_dla(trt: Any, builder: Any, core: int) -> None:
    """Refuse a core that is not there.

    Raises:
        MissingDependencyError: TensorRT sees none here, or not so many.
    """
    cores = int(builder.num_DLA_cores)
    if core < cores:
        return
    raise MissingDependencyError(
        f"{trt.__name__} {trt.__version__} sees "
        + (f"{cores} DLA cores here, and no core {core}" if cores else "no DLA core here"),
        hint=f"Use 0 to {cores - 1}."
        if cores
        else "AGX Orin, Orin NX and Xavier have them, Orin Nano and Thor have none; TensorRT "
        "drives them up to 10.7, and from 11.4.1 on. Without --dla the GPU runs it.",
    )


def place(trt: Any, network: Any, config: Any, core: int) -> Placement:
    """Let a core run what it can, and ask which layers that are.

    Raises:
        InputError: none, or the network leaves its size or batch free.
    """
    if any(extent < 0 for extent in network.get_input(0).shape):
        raise InputError(
            "a DLA runs one size and one batch, and this network leaves them free",
            hint="Export it with --input-size HxW and --batch 1.",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    # Constants are part of what reads them.
    layers = [layer for layer in layers if layer.type != trt.LayerType.CONSTANT]
    on_gpu = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    if len(on_gpu) == len(layers):
        raise InputError(
            "the DLA runs no layer of it",
            hint="It computes in float16 and int8: name a form of these, as in "
            "--form rewritten-float16.",
        )
    names = tuple(shown(str(name), MOST_LETTERS) for name in on_gpu[:MOST_NAMES])
    return Placement(core, len(layers) - len(on_gpu), names)
