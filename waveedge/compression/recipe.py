"""The recipe: what to do to a network, as one validated document that reproduces a run.

The command line builds one from its flags; ``--recipe FILE`` reads the same fields from YAML::

    bits: 4            # activations; 32 leaves the network in floating point
    weight_bits: 8
    wcc_ratio: 0.5     # share of wavelet coefficients kept by 1x1 convolutions; 1 is no WCC
    wcc_levels: 3
    wcc_select: static # how the coefficients are chosen
    skip: ["layers.0.*"]
    cost: gpu          # what exact rewrites choose by: cpu, gpu, or the prices themselves
    rewrites: {skip: [polyphase]}
    layers:
      "layers.3.*": {bits: 8, wcc_ratio: 1}
"""

from __future__ import annotations

import os
import pkgutil
import reprlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from waveedge.bounds import Name
from waveedge.compression.costs import CPU, PROFILES, CostProfile, profile_of
from waveedge.compression.plain_yaml import Lines, read_plain_yaml
from waveedge.errors import RecipeError, UsageError
from waveedge.limits import LONGEST_NAME

__all__ = [
    "CONTAINER_BITS",
    "FLOAT",
    "STATIC",
    "LayerOverride",
    "LayerSettings",
    "Recipe",
    "RewriteSettings",
    "cost_file",
    "make_recipe",
    "read_cost",
    "read_recipe",
]

FLOAT = 32
"""Bits that stand for "not quantized"."""
CONTAINER_BITS = 8
"""Bits of the containers that onnxruntime and TensorRT compute in."""
_LEAST_STEPS, _MOST_STEPS = 200, 500
"""Of tuning, unless the recipe says how many. From 200 to 500 the denoiser and the Fashion-MNIST
example gain most of what more of them would bring (docs/shrinking.md)."""
_WORK = 8e6
"""Steps times multiply-adds of the network for a pixel."""


def _known_bits(bits: int) -> int:
    if bits != FLOAT and not 2 <= bits <= 8:
        raise ValueError("must be 2 to 8, or 32 for no quantization")
    return bits


Bits = Annotated[int, AfterValidator(_known_bits)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Levels = Annotated[int, Field(ge=1, le=8)]
# An empty pattern would match the network itself, and so nothing in it.
Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=1000)]


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


class RewriteSettings(BaseModel):
    """Which exact rewrites are applied.

    Attributes:
        skip: names of rewrites to leave out, as ``waveedge export --autotune`` found them slower on
            a machine, and names of modules to keep as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    skip: Patterns = ()


_SELECTIONS = Path(__file__).parent.parent / "nn" / "selections"
STATIC = "static"
"""The selection that leaves a layer what it is; each of the others has a module of its name."""


def _known_selection(name: str) -> str:
    # By the names of files: a recipe is read before torch is loaded.
    known = (STATIC, *(module.name for module in pkgutil.iter_modules([str(_SELECTIONS)])))
    if name not in known:
        raise ValueError(f"must be {' or '.join(known)}")
    return name


def _known_profile(cost: CostProfile | str) -> CostProfile | str:
    if isinstance(cost, str) and cost not in PROFILES:
        raise ValueError(f"must be {' or '.join(PROFILES)}, or a cost profile")
    return cost


Cost = Annotated[CostProfile | Name, AfterValidator(_known_profile)]


class Recipe(BaseModel):
    """How to compress a network.

    >>> recipe = make_recipe({"bits": 8, "layers": {"head.*": {"bits": 6}}})
    >>> recipe.settings("head.0").bits, recipe.settings("stem").bits
    (6, 8)

    Attributes:
        bits: activation bits, 2 to 8; 32 is no quantization.
        weight_bits: weight bits, 2 to 8 or 32. Follows ``bits`` to 32 unless given.
        wcc_ratio: share of the coefficients that 1x1 convolutions keep, in (0, 1]; 1 is no WCC.
        wcc_levels: levels of the wavelet transform in WCC.
        wcc_select: how coefficients are chosen: "static" (at calibration), or the name of a
            selection of every image anew (:data:`waveedge.nn.SELECTIONS`).
        skip: shell patterns of layer names to leave in floating point and without WCC.
        only: when given, only layers that match one of these patterns are touched.
        layers: overrides by layer-name pattern; later entries win.
        uniform: give every layer these bits, also the few that hold most of what fewer than 8 bits
            cost; unless given, those get 8.
        shrink: leave out channels that the output does not miss (docs/shrinking.md).
        macs: share of the multiply-adds to keep, in (0, 1], whatever it costs the output; 1 demands
            nothing.
        tune: steps of tuning; None: as many as pay (:attr:`tuning_steps`); 0: none.
        cost: prices of the device by which exact rewrites choose: the name of a profile that
            waveedge ships ("cpu", "gpu"), or a profile.
        rewrites: which exact rewrites are applied.
        seed: of everything random (the choice of calibration images and crops).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Bits = 8
    weight_bits: Bits = 8
    wcc_ratio: Ratio = 1.0
    wcc_levels: Levels = 3
    wcc_select: Annotated[Name, AfterValidator(_known_selection)] = STATIC
    skip: Patterns = ()
    only: Patterns = ()
    layers: dict[Pattern, LayerOverride] = Field(default_factory=dict, max_length=1000)
    uniform: bool = False
    shrink: bool = True
    macs: Ratio = 1.0
    tune: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    cost: Cost = CPU.name
    rewrites: RewriteSettings = RewriteSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def profile(self) -> CostProfile:
        """The prices of ``cost``."""
        return profile_of(self.cost)

    def tuning_steps(self, macs: float) -> int:
        """Steps of tuning: unless given, some where little else makes up for what is lost.

        Args:
            macs: multiply-adds of the network for one pixel of its image: the fewer, the more steps
                can be had for the same work.
        """
        if self.tune is not None:
            return self.tune
        loses = self.bits < CONTAINER_BITS or self.weight_bits < CONTAINER_BITS
        if not (loses or self.wcc_ratio < 1 or self.macs < 1):
            return 0
        return int(min(max(_WORK / max(macs, 1.0), _LEAST_STEPS), _MOST_STEPS))

    def settings(self, layer: str) -> LayerSettings:
        """Return the settings of one layer: the recipe's, then every matching override in order."""
        merged: dict[str, Any] = {name: getattr(self, name) for name in LayerSettings.model_fields}
        for pattern, override in self.layers.items():
            if fnmatchcase(layer, pattern):
                merged.update(override.model_dump(exclude_none=True))
        return LayerSettings(**merged)

    def gives(self, layer: str, *fields: str) -> bool:
        """Return whether an override names one of these settings for this layer."""
        return any(
            fnmatchcase(layer, pattern) and any(getattr(override, name) for name in fields)
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
        macs = f"-macs{self.macs * 100:g}" if self.macs < 1 else ""
        return f"w{self.weight_bits}a{self.bits}{wcc}{macs}"


def make_recipe(fields: dict[str, Any]) -> Recipe:
    """Validate ``fields`` into a recipe.

    Raises:
        RecipeError: a field is unknown or has a value that makes no sense; all are named.
    """
    if fields.get("bits") == FLOAT:
        fields = {"weight_bits": FLOAT, **fields}
    return _validated(fields, "the recipe", {})


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the fields of a recipe from a YAML file, to be joined with others or made a recipe.

    Raises:
        InputError: the path is no regular file.
        RecipeError: the file is missing, is not plain YAML, does not hold a mapping, or has a
            field that makes no sense; the lines are named.
    """
    fields, lines = read_plain_yaml(path, what="recipe")
    if not isinstance(fields, dict):
        raise RecipeError(
            f"the recipe {path} does not hold a mapping of field names to values",
            hint="A recipe is a YAML mapping, for example: bits: 4",
        )
    _validated(fields, f"the recipe {path}", lines)
    return fields


def cost_file(name: str | None) -> Path | None:
    """The file that a cost profile's name is; None for a shipped profile, and for none."""
    return None if name is None or name in PROFILES else Path(name)


def read_cost(name: str) -> CostProfile | str:
    """``name`` where a shipped cost profile has it, else the profile in the file of that name.

    Raises:
        UsageError: there is neither.
        InputError: the path is no regular file.
        RecipeError: the file holds no cost profile.
    """
    path = cost_file(name)
    if path is None:
        return name
    if not os.path.lexists(path):
        raise UsageError(
            f"there is no cost profile {name!r}",
            hint=f"Known: {', '.join(PROFILES)}; or a file that waveedge fit-cost wrote.",
        )
    fields, lines = read_plain_yaml(path, what="cost profile")
    try:
        return CostProfile.model_validate(fields)
    except ValidationError as error:
        problems = [_problem(item, lines) for item in error.errors(include_url=False)]
        raise RecipeError(
            f"the cost profile {path} does not make sense: {'; '.join(problems[:8])}",
            hint="Make one with: waveedge fit-cost",
        ) from None


def _validated(fields: dict[str, Any], name: str, lines: Lines) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problems = [_problem(item, lines) for item in error.errors(include_url=False)]
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise RecipeError(
            f"{name} does not make sense: {'; '.join(problems[:8])}{more}",
            hint=f"Known fields: {', '.join(Recipe.model_fields)}.",
        ) from None


def _problem(item: Any, lines: Lines) -> str:
    path = tuple(item["loc"])
    while path and path not in lines:  # pydantic adds parts of its own, for keys
        path = path[:-1]
    where = f"line {lines[path]}: " if path in lines else ""
    field = ".".join(str(part)[:80] for part in item["loc"]) or "recipe"
    reason = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        reason = "unknown field"
    return f"{where}{field} = {reprlib.repr(item['input'])}: {reason}"
