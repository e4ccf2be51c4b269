"""Build a network from its specification, and check images against it."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from waveedge.errors import (
    CheckpointError,
    InputError,
    RecipeError,
    UsageError,
    out_of_memory,
    reason,
)
from waveedge.models.families import FAMILIES
from waveedge.spec import ModelSpec

__all__ = ["attach_spec", "build", "check_input_size", "custom_network", "spec_of"]


def build(spec: ModelSpec, *, arch: str | None = None) -> nn.Module:
    """Build the network that ``spec`` describes, in eval mode, with fresh weights.

    Args:
        spec: what to build.
        arch: ``package.module:factory`` of a custom network. A specification may come from a
            file, so the factory that it names runs only if the caller names it too.

    Raises:
        CheckpointError: there is no such family, the configuration makes no sense, or a custom
            network needs ``arch``.
        RecipeError: ``arch`` does not name a function that builds a network.
    """
    if spec.family == "custom":
        if arch is None:
            raise CheckpointError(
                f"this is a network of your own, built by {spec.arch or 'code not recorded'}",
                hint=f"waveedge runs no code that a file names. Name it yourself: "
                f"--arch {spec.arch or 'package.module:factory'}",
            )
        return attach_spec(custom_network(arch), spec)
    family = FAMILIES.get(spec.family)
    if family is None:
        raise CheckpointError(
            f"this is a network of the family {spec.family}, which this waveedge does not know",
            hint=f"It knows {', '.join(FAMILIES)}; a later version may know more.",
        )
    try:
        config = family.config.model_validate(spec.config)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckpointError(
            f"the configuration of this {spec.family} network makes no sense: "
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}",
            hint="The file is damaged, or from another version of waveedge.",
        ) from error
    return attach_spec(family.module(config), spec)


def attach_spec(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Set ``model.spec``, switch to eval mode, and return the model."""
    # Past nn.Module.__setattr__, whose declared type takes tensors and modules only.
    model.__dict__["spec"] = spec
    return model.eval()


def spec_of(model: nn.Module) -> ModelSpec:
    """Return the specification that a network from :func:`waveedge.load` carries.

    Raises:
        InputError: the network carries none.
    """
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise InputError(
            f"this {type(model).__name__} carries no specification",
            hint="Use a network from waveedge.load(path), or set model.spec to a ModelSpec.",
        )
    return spec


def check_input_size(spec: ModelSpec, size: tuple[int, int]) -> None:
    """Check that a network takes images of ``size`` = (height, width) in pixels.

    Raises:
        InputError: the wavelet levels do not divide the size, or it is too small.
    """
    height, width = size
    multiple, least = spec.size_multiple, spec.size_multiple
    if spec.family in FAMILIES:
        least = FAMILIES[spec.family].config.model_validate(spec.config).minimum_size
    if min(size) < least:
        raise InputError(
            f"the input size {height}x{width} is too small for this network",
            hint=f"Use at least {least}x{least}.",
        )
    if height % multiple or width % multiple:
        near = "x".join(str(max(1, round(extent / multiple)) * multiple) for extent in size)
        raise InputError(
            f"the input size {height}x{width} does not fit this network: its stem and wavelet "
            f"levels need a height and width that {multiple} divides",
            hint=f"Use for example --input-size {near}.",
        )


def custom_network(arch: str) -> nn.Module:
    """Call the factory of a user's own network; modules of the current folder can be imported.

    Args:
        arch: ``package.module:factory``, a callable without required arguments that returns an
            ``nn.Module``. Its code runs.

    Raises:
        UsageError: ``arch`` is not of that form.
        RecipeError: there is no such callable, it fails, or it returns something else.
    """
    module_name, _, name = arch.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise UsageError(
            f"--arch {arch} is not of the form package.module:factory",
            hint="For a function make() in net.py of the current folder: --arch net:make",
        )
    with _current_folder_importable():
        with _foreign_code(
            f"--arch {arch}: importing {module_name} failed",
            hint="Run waveedge in the folder that holds the module, or install its package.",
        ):
            module = importlib.import_module(module_name)
            factory = getattr(module, name, None)
        if not callable(factory):
            similar = difflib.get_close_matches(name, dir(module), 1)
            raise RecipeError(
                f"--arch {arch}: {module_name} has no function {name}",
                hint=f"Did you mean {module_name}:{similar[0]}?" if similar else "Check its name.",
            )
        with _foreign_code(
            f"--arch {arch}: {name}() failed",
            hint="The factory is called without arguments; give each a default.",
        ):
            model = factory()
    if not isinstance(model, nn.Module):
        raise RecipeError(
            f"--arch {arch}: {name}() returned a {type(model).__name__}, not a torch nn.Module",
            hint="Name a function that returns the network.",
        )
    return model


@contextmanager
def _foreign_code(what: str, *, hint: str) -> Iterator[None]:
    """Report whatever a user's module raises, SystemExit too, as one message."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if out_of_memory(error):
            raise
        raise RecipeError(f"{what}: {reason(error)}", hint=hint) from error


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:  # the module may have changed it
            sys.path.remove(folder)
