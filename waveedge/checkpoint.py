"""Load a trained network from a checkpoint file, and save one that describes itself.

file -> dictionaries -> state dict -> plain names -> specification -> module -> its weights
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from waveedge.errors import CheckpointError
from waveedge.files import shown
from waveedge.filetypes import CHECKPOINT_KEY
from waveedge.models.build import attach_spec, build, custom_network, spec_of
from waveedge.models.channels import input_channels
from waveedge.models.identify import compare, identify
from waveedge.models.names import fitting_part, without_counters
from waveedge.models.settings import configure
from waveedge.models.source import source_sha256
from waveedge.models.statedict import State, find_state, is_tensor
from waveedge.models.tensors import check_tensors, plain_tensors
from waveedge.models.weights import open_weights
from waveedge.outputs import CHECKPOINT, new_file
from waveedge.spec import ModelSpec

if TYPE_CHECKING:
    from waveedge.compression.compressed import Compressed

__all__ = ["load", "save_checkpoint"]


def load(
    path: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    arch: str | None = None,
    key: str | None = None,
    trust_pickle: bool = False,
) -> nn.Module | Compressed:
    """Load a trained network; its family and configuration are told from the file.

    ::

        model = waveedge.load("model.pt")
        print(model.spec.family, model.spec.config)

    Args:
        path: a state dict (``.pt``, ``.pth``, ``.ckpt``: plain or nested as training scripts save
            it) or ``.safetensors``, also in several files (then the folder, or the index in it).
            The content counts, not the ending. Nothing in it is executed.
        settings: values for what shapes cannot tell (``{"stride": "1"}``), and for how images
            enter: ``mean``, ``std``, ``range``, ``task``, ``input_size``, and for a network of
            your own ``channels``.
        arch: ``package.module:factory``, the function that builds a network of your own; it is
            imported and called, and the checkpoint is loaded into its result.
        key: which network of a file that holds several: names of dictionaries and of parts, with
            dots between them (``netG``, ``state_dict.teacher``).
        trust_pickle: accept a pickled Python object, which can run any code from the file.

    Returns:
        The network in eval mode, float32, on the CPU, with the attributes ``spec``
        (:class:`~waveedge.spec.ModelSpec`), ``notes`` (what was chosen, converted or left out, in
        sentences), ``source_sha256``, ``source_path``, ``source_name`` (the file's) and
        ``source_key`` (the path of dictionary keys to the state dict in it). An artifact gives
        what was saved in it, a :class:`~waveedge.compression.compressed.Compressed`.

    Raises:
        CheckpointError: the file cannot be read, or holds no network that is known.
        ArtifactError: it is a damaged artifact.
        RecipeError: a setting or ``arch`` makes no sense.
    """
    from waveedge.artifact import is_artifact, load_artifact

    path = Path(path)
    if is_artifact(path):
        return load_artifact(path)
    with open_weights(path, trust_pickle=trust_pickle) as weights, _named(path):
        found, source_key, notes = find_state(weights.content, key)
        state, counters = without_counters(found)
        check_tensors(state, weights.size)
        model, state, choice = _network(state, _described(weights.metadata), arch, settings or {})
        precision = _fill(model, state)
    model.__dict__.update(
        notes=tuple(f"{path.name}: {note}" for note in (*notes, *choice, *counters, *precision)),
        source_sha256=source_sha256(weights.files),
        source_path=path.resolve(),
        source_name=shown(path.name),
        source_key=source_key,
    )
    return model


def save_checkpoint(model: nn.Module, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a network with its specification as ``.safetensors``, so that nothing is assumed.

    Args:
        model: a network with a ``spec``.
        path: the file; an older one of this function is replaced once the new one is complete.
        overwrite: replace any other file, too.

    Raises:
        InputError: the network carries no specification.
        OutputError: the file must not be replaced, or the folder is missing, read-only or full.
    """
    spec = spec_of(model)
    state = {
        # Tied weights share memory, which the format does not express.
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    with new_file(Path(path), CHECKPOINT, overwrite=overwrite) as temporary:
        save_file(state, temporary, metadata={CHECKPOINT_KEY: spec.model_dump_json()})


def _described(metadata: Mapping[str, str]) -> ModelSpec | None:
    """Return the specification that the file states, if it does."""
    if CHECKPOINT_KEY not in metadata:
        return None
    try:
        return ModelSpec.model_validate_json(metadata[CHECKPOINT_KEY])
    except ValidationError as error:
        raise CheckpointError(
            f"its description ({CHECKPOINT_KEY}) makes no sense: {error.errors()[0]['msg']}",
            hint="The file is damaged, or from another version of waveedge.",
        ) from error


def _network(
    state: State,
    described: ModelSpec | None,
    arch: str | None,
    settings: Mapping[str, str],
) -> tuple[nn.Module, State, list[str]]:
    """Build the network that ``state`` is of; return it, its part of ``state``, and notes."""
    notes: list[str] = []
    if arch is not None:
        model = _custom(arch, described)
        expected = _shapes(model.state_dict())
        state, _, notes = fitting_part(
            state, lambda part: None if compare(expected, _shapes(part)) else model
        )
        return attach_spec(model, configure(spec_of(model), settings)), state, notes
    if described is None:
        state, described, notes = fitting_part(state, _identified)
        # Identified again for the reason why it cannot be.
        described = described or identify(_shapes(state))
    else:
        _check_description(described, _shapes(state))
    # The random weights that are about to be replaced must not advance the user's seed.
    with torch.random.fork_rng(devices=[]):
        return build(configure(described, settings)), state, notes


def _check_description(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a description is of these weights, before memory is taken for what it says."""
    if spec.family == "custom":
        return  # build says how to name its code
    most = max([64, len(shapes), *(extent for shape in shapes.values() for extent in shape)])
    values = [item for value in spec.config.values() for item in _items(value)]
    problems = ["it says of more layers or channels than it has weights for"]
    if all(value <= most for value in values if isinstance(value, int)):
        with torch.device("meta"):
            problems = compare(_shapes(build(spec).state_dict()), shapes)
    if problems:
        raise CheckpointError(
            f"its description ({CHECKPOINT_KEY}) does not fit its weights: {'; '.join(problems)}",
            hint="The file is damaged, or was edited.",
        )


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _identified(state: State) -> ModelSpec | None:
    try:
        return identify(_shapes(state))
    except CheckpointError:
        return None


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if is_tensor(value)}


def _custom(arch: str, described: ModelSpec | None) -> nn.Module:
    """Build a user's network, and describe it as far as the user or the file did."""
    model = custom_network(arch).eval()
    spec = getattr(model, "spec", None)
    if described is not None and described.family == "custom":
        spec = described
    if not isinstance(spec, ModelSpec):
        spec = ModelSpec(family="custom", channels=input_channels(model))
    return attach_spec(model, spec.model_copy(update={"family": "custom", "arch": arch}))


def _fill(model: nn.Module, state: State) -> list[str]:
    """Load ``state`` into ``model``, every key once and none left over; return notes.

    Nothing is read from the file before all names and shapes fit.
    """
    expected = {
        name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)
    }
    problems = compare(_shapes(expected), _shapes(state))
    problems += [
        f"{name} holds {str(state[name].dtype).removeprefix('torch.')} numbers, not weights"
        for name in expected
        if name in state
        and expected[name].is_floating_point()
        and not state[name].dtype.is_floating_point
    ]
    spec = spec_of(model)
    if problems:
        raise CheckpointError(
            f"it does not fit {spec.arch or spec.family}: {'; '.join(problems)}",
            hint="Check that this checkpoint was saved from this very network, uncompressed.",
        )
    tensors, notes = plain_tensors(state)
    # Only a count of training batches can be missing; the network's own zero stands for it.
    tensors.update((name, expected[name]) for name in expected if name not in tensors)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"it does not fit {spec.arch or spec.family}: {' '.join(str(error).split())}",
            hint="Check that this checkpoint was saved from this very network.",
        ) from error
    return notes


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before the messages of those who only saw its content."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.what}", hint=error.hint) from error
