"""Let torch-pruning leave out channels of a network, in the environment that it needs.

    python -I worker.py JOB.json

JOB holds ``paths`` to import the network's code from, ``model`` (a pickled module), ``images``
(``.npz``, float32 (count, C, H, W)), ``shares`` of the multiply-adds, ``settings`` by name, and the
folder ``out``. Writes one pickled module for each share and setting, and prints what became of them
as JSON on the last line. A setting that fails is told with its ``error``.
"""

from __future__ import annotations

import copy
import json
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_ROUND_TO = 4
"""Channels come in multiples of it: what waveedge's cost profile of the CPU asks for."""
_HALVINGS = 8
"""Of the interval of pruning ratios in which the one of a share is looked for."""
_NOISES = 2
"""Random directions of the output, of each image, along which gradients are taken."""

_GRADED = 16
"""Images that gradients are taken on."""

_FOLLOWED, _AS_IT_IS = 600, 30
"""Seconds of CPU time that a setting may take; it takes a few where it ends at all."""

Gradients = dict[str, Tensor]


def main() -> None:
    """Do the job that the command line names."""
    job = json.loads(Path(sys.argv[1]).read_text())
    # At the end: what is installed here comes first.
    sys.path += job["paths"]
    model = torch.load(job["model"], weights_only=False).eval()
    images = torch.from_numpy(np.load(job["images"])["images"])
    torch.set_num_threads(1)
    rows = list(_rows(model, images, job["shares"], job["settings"], Path(job["out"])))
    versions = {name: version(name) for name in ("torch-pruning", "torch")}
    print(f"\n{json.dumps({'rows': rows, 'versions': versions})}")


def _rows(
    model: nn.Module,
    images: Tensor,
    shares: Sequence[float],
    settings: dict[str, dict[str, Any]],
    out: Path,
) -> Iterator[dict[str, Any]]:
    start = time.process_time()
    gradients = _gradients(model, images)
    shared = time.process_time() - start
    for name, setting in settings.items():
        for share in shares:
            row: dict[str, Any] = {"setting": name, "share": share}
            start = time.process_time()
            try:
                with _at_most(_AS_IT_IS if setting.get("as_it_is") else _FOLLOWED):
                    pruned, found = prune(model, images[:1], gradients, share, **setting)
                file = out / f"{name}-{100 * share:g}.pt"
                torch.save(pruned, file)
                row |= found | {"file": file.name}
            except Exception as error:  # of the package's own, or of a network that came out wrong
                row["error"] = f"{type(error).__name__}: {error}"
            seconds = time.process_time() - start + shared * (setting["importance"] in _OF_OUTPUT)
            yield {**row, "cpu_minutes": seconds / 60}


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after that much CPU time: where it cannot follow, it goes in circles."""

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"it does not end within {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def prune(
    model: nn.Module,
    image: Tensor,
    gradients: Gradients,
    share: float,
    *,
    importance: str,
    everywhere: bool,
    as_it_is: bool = False,
) -> tuple[nn.Module, dict[str, Any]]:
    """Leave out channels until a share of the multiply-adds is left, as nearly as they come.

    Args:
        model: it is not changed.
        image: (1, C, H, W).
        gradients: see :func:`_gradients`.
        share: of the multiply-adds of the network as it was published.
        importance: of :data:`_IMPORTANCES`.
        everywhere: channels of all layers are ranked together, not those of each alone.
        as_it_is: do not write the network so that it can be followed.

    Returns:
        The network, and what is told of it.
    """
    whole = _macs(model, image)
    low, high = 0.0, 1.0
    best: tuple[float, float, nn.Module] | None = None
    for _ in range(_HALVINGS):
        ratio = (low + high) / 2
        pruned = _pruned(model, image, gradients, ratio, importance, everywhere, as_it_is)
        left = _macs(pruned, image) / whole
        if best is None or abs(left - share) < abs(best[1] - share):
            best = (ratio, left, pruned)
        low, high = (ratio, high) if left > share else (low, ratio)
    assert best is not None
    ratio, left, pruned = best
    return pruned, {"pruning_ratio": ratio, "layers_share": left}


def _pruned(
    model: nn.Module,
    image: Tensor,
    gradients: Gradients,
    ratio: float,
    importance: str,
    everywhere: bool,
    as_it_is: bool,
) -> nn.Module:
    import torch_pruning  # type: ignore[import-not-found]

    from benchmarks.pruning.followed import Hidden, followed, restore

    copied = copy.deepcopy(model)
    if not as_it_is:
        followed(copied)
    # Hidden layers are not asked; all others have the names that they have in the gradients.
    for name, parameter in copied.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    scorer = getattr(torch_pruning.importance, _IMPORTANCES[importance])()
    if importance == "hessian":
        scorer.accumulate_grad(copied)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            copied,
            image,
            importance=scorer,
            global_pruning=everywhere,
            pruning_ratio=ratio,
            round_to=_ROUND_TO,
            ignored_layers=_last_layer(copied, image),
            customized_pruners={} if as_it_is else {Hidden: _pruner_of_hidden()},
        )
        pruner.step()
    restore(copied)
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


_IMPORTANCES = {
    "magnitude": "GroupMagnitudeImportance",
    "lamp": "LAMPImportance",
    "batchnorm": "BNScaleImportance",
    "taylor": "GroupTaylorImportance",
    "hessian": "GroupHessianImportance",
}
"""Name of a setting -> torch-pruning's name."""
_OF_OUTPUT = ("taylor", "hessian")
"""Those that need gradients."""


def _gradients(model: nn.Module, images: Tensor) -> Gradients:
    """Root mean squares of the gradients of the output along random directions.

    The squared distance to the network itself has no gradient; its second derivatives are the mean
    squares of these. By name, in the network as it can be followed.
    """
    from benchmarks.pruning.followed import followed

    copied = copy.deepcopy(model)
    followed(copied, hide=False)
    named = {name: p for name, p in copied.named_parameters() if p.requires_grad}
    squares = {name: torch.zeros_like(p) for name, p in named.items()}
    noise = torch.Generator().manual_seed(0)
    for image in images[:_GRADED]:
        output = copied(image[None])
        for _ in range(_NOISES):
            direction = torch.randn(output.shape, generator=noise)
            found = torch.autograd.grad(
                (output * direction).sum(), list(named.values()), retain_graph=True
            )
            for square, gradient in zip(squares.values(), found, strict=True):
                square += gradient.square()
    count = _NOISES * min(_GRADED, len(images))
    return {name: (square / count).sqrt() for name, square in squares.items()}


def _last_layer(copied: nn.Module, image: Tensor) -> list[nn.Module]:
    """The layer that gives the output: its channels are the user's."""
    order: list[nn.Module] = []
    layers = [module for module in copied.modules() if _is_layer(module)]
    hooks = [m.register_forward_hook(lambda m, _i, _o: order.append(m)) for m in layers]
    with torch.no_grad():
        copied(image)
    for hook in hooks:
        hook.remove()
    return order[-1:]


@torch.no_grad()
def _macs(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of its layers; waveedge's own count takes seconds, and many are compared."""
    counts: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # A transposed convolution applies its kernel to every input value, others make outputs.
        values = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts.append(values.numel() * weight[0].numel())

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if _is_layer(layer)]
    model(image)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)


def _pruner_of_hidden() -> Any:
    """How torch-pruning leaves out channels of a WTConv layer."""
    from torch_pruning.pruner.function import BasePruningFunc  # type: ignore[import-not-found]

    from benchmarks.pruning.followed import Hidden, keep_channels

    class Pruner(BasePruningFunc):  # type: ignore[misc, unused-ignore]
        def prune_out_channels(self, layer: Hidden, idxs: Iterable[int]) -> Hidden:
            left_out = set(idxs)
            channels = range(layer.layer.in_channels)
            keep_channels(layer.layer, [one for one in channels if one not in left_out])
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: Hidden) -> int:
            return int(layer.layer.out_channels)

        get_in_channels = get_out_channels

    return Pruner()


if __name__ == "__main__":
    main()
