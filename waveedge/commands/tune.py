"""``waveedge tune``: an artifact in, a better one out."""

from __future__ import annotations

from pathlib import Path

from waveedge import console
from waveedge.artifact import load_artifact, newest_artifact, save_artifact
from waveedge.commands.images import read_images
from waveedge.errors import InputError
from waveedge.finetune import STEPS, tune
from waveedge.opening import Loader, checkpoint_of
from waveedge.outputs import ARTIFACT, TUNING, check_output, default_name, target_path

__all__ = ["run"]


def run(
    artifact: Path | None,
    *,
    teacher: Path | None,
    data: Path | None,
    steps: int | None,
    seed: int,
    out: Path | None,
    overwrite: bool,
    code: tuple[Path, ...],
    load: Loader,
    as_json: bool,
) -> None:
    """Tune ``artifact``, or the newest one here, and write the result and what came of it.

    Raises:
        InputError: there is no artifact.
    """
    source = artifact or newest_artifact(Path(), warn=console.warn)
    if source is None:
        raise InputError(
            "there is no artifact in this folder", hint="Make one: waveedge compress MODEL"
        )
    if artifact is None:
        console.say(f"Tuning the newest artifact here: {source}")
    target = target_path(out, default_name(source, "tuned.safetensors"))
    state = target.with_name(f"{target.name}.tuning")
    compressed = load_artifact(source)
    original = teacher or checkpoint_of(compressed)
    inputs = (source, original, data, *code)
    check_output(target, ARTIFACT, inputs=inputs, overwrite=overwrite)
    check_output(state, TUNING, inputs=inputs)
    images = read_images(
        data, spec=compressed.spec, size=compressed.input_size, seed=compressed.recipe.seed
    )
    console.say(images.summary())
    with console.progress_bar() as progress:
        result = tune(
            compressed,
            images,
            teacher=load(original) if original else None,
            steps=STEPS if steps is None else steps,
            seed=seed,
            state=state,
            warn=console.warn,
            progress=progress,
        )
    save_artifact(result, target, overwrite=overwrite)
    state.unlink(missing_ok=True)
    tuned = result.report.tuned
    assert tuned is not None
    if as_json:
        report = result.report.model_dump(mode="json")
        console.print_json({"artifact": str(target), **report})
        return
    console.out.print(
        f"tuned in {tuned.steps} steps: {tuned.snr_db_before:.1f} to {tuned.snr_db:.1f} dB on "
        f"{result.report.quality.images} held-out images\nwrote {target}",
        highlight=False,
        markup=False,
    )
