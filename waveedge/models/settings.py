"""Apply ``--set key=value`` to a specification: what shapes cannot tell, and the images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from waveedge.errors import UsageError
from waveedge.limits import parse_size
from waveedge.models.build import check_input_size
from waveedge.models.families import FAMILIES, describe
from waveedge.spec import ModelSpec, Preprocessing, Task

__all__ = ["configure"]


def configure(spec: ModelSpec, settings: Mapping[str, str]) -> ModelSpec:
    """Return ``spec`` with ``settings`` in it.

    Args:
        spec: of an identified or a custom network.
        settings: the fields that ``spec`` lists as assumed; or ``mean``, ``std`` and ``range``
            (numbers with commas between them), ``task``, ``input_size`` (HxW); of a custom
            network also ``channels``, of the input.

    Raises:
        UsageError: an unknown name, or a value that makes no sense.
        InputError: the network does not take images of ``input_size``.
    """
    custom = spec.family == "custom"
    known = (*spec.assumed, *(name for name in _IMAGE if custom or name != "channels"))
    for name, value in settings.items():
        if name in spec.config and name not in known:
            raise UsageError(
                f"--set {name}={value}: the checkpoint tells that {name} is {spec.config[name]}",
                hint=f"You can set: {', '.join(known)}.",
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            question = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"--set {name}={value}: there is no setting {name}",
                hint=f"{question}You can set: {', '.join(known)}.",
            )
    fields = {name: value for name, value in settings.items() if name in spec.assumed}
    if fields:
        spec = _with_fields(spec, fields)
    for name in _IMAGE:  # channels before what has a value for each
        if name in settings:
            spec = _IMAGE[name](spec, name, settings[name])
    return spec


def _with_fields(spec: ModelSpec, fields: Mapping[str, str]) -> ModelSpec:
    try:
        config = FAMILIES[spec.family].config.model_validate({**spec.config, **fields})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else next(iter(fields))
        raise UsageError(
            f"--set {name}={fields.get(name, spec.config.get(name))}: {problem['msg']}",
            hint=f"The published default is {spec.config.get(name)}.",
        ) from error
    return describe(config, tuple(name for name in spec.assumed if name not in fields))


def _set_preprocessing(spec: ModelSpec, name: str, value: str) -> ModelSpec:
    numbers = _numbers(name, value)
    if name == "range" and (len(numbers) != 2 or numbers[0] >= numbers[1]):
        raise UsageError(
            f"--set range={value} is not a lowest and a highest value",
            hint="Write for example range=0,1 or range=-1,1.",
        )
    if name != "range" and len(numbers) not in (1, spec.channels):
        raise UsageError(
            f"--set {name}={value} has {len(numbers)} values, the network has "
            f"{spec.channels} input channels",
            hint=f"Give one value, or {spec.channels} with commas between them.",
        )
    fields = {**spec.preprocessing.model_dump(), name: numbers}
    try:
        return spec.model_copy(update={"preprocessing": Preprocessing.model_validate(fields)})
    except ValidationError as error:
        raise UsageError(
            f"--set {name}={value}: {error.errors()[0]['msg']}",
            hint="A pixel enters as (value - mean) / std.",
        ) from error


def _numbers(name: str, value: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise UsageError(
            f"--set {name}={value} is not a list of numbers",
            hint=f"Write for example {name}=0.5 or {name}=0.485,0.456,0.406.",
        ) from error
    if not all(abs(number) < float("inf") for number in numbers):
        raise UsageError(f"--set {name}={value} is not finite", hint="Give ordinary numbers.")
    return numbers


_MOST_CHANNELS = 1024


def _set_channels(spec: ModelSpec, name: str, value: str) -> ModelSpec:
    if not value.strip().isdecimal() or not 1 <= int(value[:5]) <= _MOST_CHANNELS:
        raise UsageError(
            f"--set {name}={value[:40]} is not a number of channels",
            hint="It is 3 for colour images, 1 for grey ones.",
        )
    return spec.model_copy(update={"channels": int(value)})


def _set_task(spec: ModelSpec, name: str, value: str) -> ModelSpec:
    if value not in get_args(Task):
        raise UsageError(
            f"--set {name}={value}: there is no such task",
            hint=f"The tasks are {', '.join(get_args(Task))}.",
        )
    return spec.model_copy(update={"task": value})


def _set_input_size(spec: ModelSpec, name: str, value: str) -> ModelSpec:
    text = f"{value}x{value}" if value.isdecimal() else value.replace(",", "x")
    size = parse_size(f"--set {name}", text)
    check_input_size(spec, size)
    return spec.model_copy(update={"input_size": size})


_IMAGE: dict[str, Callable[[ModelSpec, str, str], Any]] = {
    "channels": _set_channels,
    "mean": _set_preprocessing,
    "std": _set_preprocessing,
    "range": _set_preprocessing,
    "task": _set_task,
    "input_size": _set_input_size,
}
