"""Load a trained network from a checkpoint file, and save one that describes itself.

file -> tensors -> state dict -> plain names -> specification -> module with those weights
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from waveedge.errors import CheckpointError
from waveedge.files import atomic_file, sha256
from waveedge.models.build import attach_spec, build, custom_network, spec_of
from waveedge.models.identify import compare, identify
from waveedge.models.settings import configure
from waveedge.models.statedict import find_state, plain_tensors, strip_prefixes
from waveedge.models.weights import read_weights
from waveedge.spec import ModelSpec

__all__ = ["load", "save_checkpoint"]

SPEC_KEY = "waveedge.spec"


def load(
    path: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    arch: str | None = None,
    trust_pickle: bool = False,
) -> nn.Module:
    """Load a trained network; its family and configuration are told from the file.

    Args:
        path: a state dict (``.pt``, ``.pth``: plain or nested as training scripts save it) or
            ``.safetensors``. The content counts, not the ending. Nothing in it is executed.
        settings: values for what shapes cannot tell (``{"stride": "1"}``), and for how images
            enter: ``mean``, ``std``, ``range``, ``task``, ``input_size``.
        arch: ``package.module:factory``, the function that builds a network of your own; it is
            imported and called, and the checkpoint is loaded into its result.
        trust_pickle: accept a pickled Python object, which can run any code from the file.

    Returns:
        The network in eval mode, float32, on the CPU, with the attributes ``spec``
        (:class:`~waveedge.spec.ModelSpec`), ``source_sha256``, ``source_name`` (the file's) and
        ``source_key`` (the path of dictionary keys to the state dict in it). A compressed
        artifact gives its compressed network.

    Raises:
        CheckpointError: the file cannot be read, or holds no network that is known.
        RecipeError: a setting or ``arch`` makes no sense.
    """
    from waveedge.artifact import is_artifact, load_artifact

    path = Path(path)
    if is_artifact(path):
        return load_artifact(path).graph
    weights = read_weights(path, trust_pickle=trust_pickle)
    with _named(path):
        found, key = find_state(weights.content)
        state = plain_tensors(found)
        described = _described(weights.metadata)
        if arch is not None:
            model = _custom(arch, described)
            state = _matching_names(model, state)
            model = attach_spec(model, configure(spec_of(model), settings or {}))
        else:
            if described is None:
                state = strip_prefixes(state)
                described = identify({name: tensor.shape for name, tensor in state.items()})
            # The random weights that are about to be replaced must not advance the user's seed.
            with torch.random.fork_rng(devices=[]):
                model = build(configure(described, settings or {}))
        _fill(model, state)
    model.__dict__.update(source_sha256=sha256(path), source_name=path.name, source_key=key)
    return model


def save_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Write a network with its specification as ``.safetensors``, so that nothing is assumed.

    Args:
        model: a network with a ``spec``.
        path: the file; an existing one is replaced once the new one is complete.

    Raises:
        InputError: the network carries no specification.
        OutputError: the folder is missing, read-only or full.
    """
    spec = spec_of(model)
    state = {
        # Tied weights share memory, which the format does not express.
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    with atomic_file(Path(path)) as temporary:
        save_file(state, temporary, metadata={SPEC_KEY: spec.model_dump_json()})


def _described(metadata: Mapping[str, str]) -> ModelSpec | None:
    """Return the specification that the file states, if it does."""
    if SPEC_KEY not in metadata:
        return None
    try:
        return ModelSpec.model_validate_json(metadata[SPEC_KEY])
    except ValidationError as error:
        raise CheckpointError(
            f"its description ({SPEC_KEY}) makes no sense: {error.errors()[0]['msg']}",
            hint="The file is damaged, or from another version of waveedge.",
        ) from error


def _custom(arch: str, described: ModelSpec | None) -> nn.Module:
    """Build a user's network, and describe it as far as the user or the file did."""
    model = custom_network(arch)
    spec = getattr(model, "spec", None)
    if described is not None and described.family == "custom":
        spec = described
    if not isinstance(spec, ModelSpec):
        convs = (module for module in model.modules() if isinstance(module, nn.Conv2d))
        first = next(convs, None)
        spec = ModelSpec(family="custom", channels=first.in_channels if first else 3)
    return attach_spec(model, spec.model_copy(update={"family": "custom", "arch": arch}))


def _matching_names(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the names where they fit a user's network, whose own may look like a prefix."""
    return state if model.state_dict().keys() <= state.keys() else strip_prefixes(state)


def _fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state`` into ``model``, every key once and none left over."""
    expected = {
        name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)
    }
    problems = compare(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        {name: tuple(tensor.shape) for name, tensor in state.items()},
    )
    problems += [
        f"{name} holds {str(state[name].dtype).removeprefix('torch.')} numbers, not weights"
        for name in expected
        if name in state
        and expected[name].is_floating_point()
        and not state[name].is_floating_point()
    ]
    spec = spec_of(model)
    if problems:
        raise CheckpointError(
            f"it does not fit {spec.arch or spec.family}: {'; '.join(problems)}",
            hint="Check that this checkpoint was saved from this very network, uncompressed.",
        )
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"it does not fit {spec.arch or spec.family}: {' '.join(str(error).split())}",
            hint="Check that this checkpoint was saved from this very network.",
        ) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before the messages of those who only saw its content."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.what}", hint=error.hint) from error
