"""Inputs that two networks both take, for a comparison; or one, measured alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waveedge.errors import InputError
from waveedge.runtime.backend import Array
from waveedge.runtime.inputs import example_inputs
from waveedge.runtime.schema import shown
from waveedge.runtime.session import Session

__all__ = ["common_inputs"]


def common_inputs(
    sessions: Sequence[Session],
    images: Sequence[Array] | None,
    size: tuple[int, int] | None,
    seed: int,
) -> list[tuple[Array, ...]]:
    """Make inputs that the networks, one or two, take: an array for each of theirs, checked.

    A size that one network fixes fits the other.
    """
    a, b = sessions[0], sessions[-1]
    if [(len(one.shape), one.dtype) for one in a.inputs] != [
        (len(two.shape), two.dtype) for two in b.inputs
    ]:
        raise InputError(
            f"the networks take different inputs: {_taken(a)}, and {_taken(b)}",
            hint="Compare two exports of the same task.",
        )
    common = [
        replace(
            one,
            shape=tuple(
                after if isinstance(before, str) else before
                for before, after in zip(one.shape, two.shape, strict=True)
            ),
        )
        for one, two in zip(a.inputs, b.inputs, strict=True)
    ]
    made_for = [session.sizes.calibrated for session in sessions if session.sizes is not None]
    if size is None and made_for and not all(isinstance(n, int) for n in common[0].shape[-2:]):
        size = made_for[0]
    if images is None:
        inputs = [example_inputs(common, size=size, seed=seed)]
    else:
        inputs = [
            (image, *example_inputs(common, shape=image.shape, seed=seed)[1:]) for image in images
        ]
    if not inputs:
        raise InputError("no images were given", hint="Leave images out to run on random data.")
    for arrays in inputs:
        for session in sessions:
            session.check(*arrays)
    return inputs


def _taken(session: Session) -> str:
    return shown(", ".join(f"{info.dtype} {info.shape}" for info in session.inputs), 200)
