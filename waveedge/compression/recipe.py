"""The recipe: what to do to a network, as one validated document that reproduces a run.

The command line builds one from its flags; ``--recipe FILE`` reads the same fields from YAML::

    bits: 4            # activations; 32 leaves the network in floating point
    weight_bits: 8
    wcc_ratio: 0.5     # share of wavelet coefficients kept by 1x1 convolutions; 1 is no WCC
    wcc_levels: 3
    skip: ["layers.0.*"]
    layers:
      "layers.3.*": {bits: 8, wcc_ratio: 1}
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from waveedge.errors import RecipeError

__all__ = ["FLOAT", "LayerOverride", "LayerSettings", "Recipe", "make_recipe", "read_recipe"]

FLOAT = 32
"""Bits that stand for "not quantized"."""


def _known_bits(bits: int) -> int:
    if bits != FLOAT and not 2 <= bits <= 8:
        raise ValueError("must be 2 to 8, or 32 for no quantization")
    return bits


Bits = Annotated[int, AfterValidator(_known_bits)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Levels = Annotated[int, Field(ge=1, le=8)]


class LayerOverride(BaseModel):
    """Settings of some layers that differ from the recipe's own; ``None`` keeps the recipe's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Bits | None = None
    weight_bits: Bits | None = None
    wcc_ratio: Ratio | None = None
    wcc_levels: Levels | None = None


class LayerSettings(BaseModel):
    """What one layer gets once the overrides are applied."""

    model_config = ConfigDict(frozen=True)

    bits: int
    weight_bits: int
    wcc_ratio: float
    wcc_levels: int


class Recipe(BaseModel):
    """How to compress a network.

    Attributes:
        bits: activation bits, 2 to 8; 32 is no quantization.
        weight_bits: weight bits, 2 to 8 or 32. Follows ``bits`` to 32 unless given.
        wcc_ratio: share of wavelet coefficients a 1x1 convolution keeps, in (0, 1]; 1 is no WCC.
        wcc_levels: levels of the wavelet transform in WCC.
        skip: shell patterns of layer names to leave in floating point and without WCC.
        only: when given, only layers that match one of these patterns are touched.
        layers: overrides by layer-name pattern; later entries win.
        seed: of everything random (the choice of calibration images and crops).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Bits = 8
    weight_bits: Bits = 8
    wcc_ratio: Ratio = 1.0
    wcc_levels: Levels = 3
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    layers: dict[str, LayerOverride] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0)] = 0

    def settings(self, layer: str) -> LayerSettings:
        """Return the settings of one layer: the recipe's, then every matching override in order."""
        merged: dict[str, Any] = {name: getattr(self, name) for name in LayerSettings.model_fields}
        for pattern, override in self.layers.items():
            if fnmatchcase(layer, pattern):
                merged.update(override.model_dump(exclude_none=True))
        return LayerSettings(**merged)

    def gives_bits(self, layer: str) -> bool:
        """Return whether an override names the bits of this layer."""
        return any(
            override.bits is not None and fnmatchcase(layer, pattern)
            for pattern, override in self.layers.items()
        )

    def excluded(self, layer: str) -> str | None:
        """Return why a layer must be left alone, or None when it may be compressed."""
        for pattern in self.skip:
            if fnmatchcase(layer, pattern):
                return f"skipped by pattern {pattern}"
        if self.only and not any(fnmatchcase(layer, pattern) for pattern in self.only):
            return f"not among {', '.join(self.only)}"
        return None

    def label(self) -> str:
        """Return the short name used in file names, such as ``w8a4-wcc50``."""
        wcc = f"-wcc{self.wcc_ratio * 100:g}" if self.wcc_ratio < 1 else ""
        return f"w{self.weight_bits}a{self.bits}{wcc}"


def make_recipe(fields: dict[str, Any]) -> Recipe:
    """Validate ``fields`` into a recipe.

    Raises:
        RecipeError: a field is unknown or has a value that makes no sense; all are named.
    """
    if fields.get("bits") == FLOAT:
        fields = {"weight_bits": FLOAT, **fields}
    try:
        return Recipe(**fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'recipe'} = {item['input']!r}: {_reason(item)}"
            for item in error.errors()
        )
        raise RecipeError(
            f"the recipe does not make sense: {problems}",
            hint=f"Known fields: {', '.join(Recipe.model_fields)}.",
        ) from None


def _reason(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    return "unknown field" if item["type"] == "extra_forbidden" else message


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the fields of a recipe from a YAML file; :func:`make_recipe` validates them.

    Raises:
        RecipeError: the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"cannot read the recipe {path}: {error.strerror}", hint="Check the path."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(
            f"the recipe {path} is not valid YAML: {first}",
            hint="A recipe is a YAML mapping, for example: bits: 4",
        ) from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise RecipeError(
            f"the recipe {path} does not hold a mapping of field names to values",
            hint="A recipe is a YAML mapping, for example: bits: 4",
        )
    return fields
