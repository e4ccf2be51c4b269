"""``waveedge tune``: an artifact in, a better one out."""

from __future__ import annotations

import os
from pathlib import Path

from waveedge import console
from waveedge.artifact import load_artifact, newest_artifact, save_artifact
from waveedge.commands.images import read_images
from waveedge.compression.processes import Accelerated, Processes, launched
from waveedge.compression.report import TuningReport
from waveedge.errors import InputError
from waveedge.finetune import tune
from waveedge.labels import images_wanted, read_labels
from waveedge.opening import Loader, checkpoint_of
from waveedge.outputs import ARTIFACT, TUNING, check_output, default_name, target_path

__all__ = ["run"]


def run(
    artifact: Path | None,
    *,
    teacher: Path | None,
    data: Path | None,
    labels: Path | None,
    steps: int | None,
    minutes: float | None,
    seed: int,
    out: Path | None,
    overwrite: bool,
    code: tuple[Path, ...],
    load: Loader,
    as_json: bool,
) -> None:
    """Tune ``artifact``, or the newest one here, and write the result and what came of it.

    Of several processes that ``torchrun`` started, the first one writes.

    Raises:
        InputError: there is no artifact.
        MissingDependencyError: there are several processes, and accelerate is not installed.
    """
    accelerator = launched()
    processes = Processes() if accelerator is None else Accelerated(accelerator)
    if processes.index:
        console.hush()
    if accelerator is None and {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= os.environ.keys():
        console.warn(
            "accelerate launch starts a single process on CPUs without MPI; to start two: "
            "torchrun --nproc-per-node 2 -m waveedge tune ..."
        )
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
    inputs = (source, original, data, labels, *code)
    if not processes.index:
        check_output(target, ARTIFACT, inputs=inputs, overwrite=overwrite)
        check_output(state, TUNING, inputs=inputs)
    classes = read_labels(labels, data) if labels is not None and data is not None else None
    size = compressed.input_size
    images = read_images(
        data,
        spec=compressed.spec,
        size=size,
        seed=compressed.recipe.seed,
        wanted=images_wanted(size) if classes else None,
    )
    console.say(images.summary())
    with console.progress_bar() as progress:
        result = tune(
            compressed,
            images,
            labels=classes,
            teacher=load(original) if original else None,
            steps=steps,
            minutes=minutes,
            seed=seed,
            state=state,
            accelerator=accelerator,
            warn=console.warn,
            progress=progress,
        )
    if accelerator is not None:
        accelerator.end_training()
    if processes.index:
        return
    save_artifact(result, target, overwrite=overwrite)
    state.unlink(missing_ok=True)
    tuned = result.report.tuned
    assert tuned is not None
    if as_json:
        report = result.report.model_dump(mode="json")
        console.print_json({"artifact": str(target), **report})
        return
    console.out.print(
        f"tuned in {tuned.steps} steps: {_told(tuned)} on "
        f"{result.report.quality.images} held-out images\nwrote {target}",
        highlight=False,
        markup=False,
    )


def _told(tuned: TuningReport) -> str:
    told = f"{tuned.snr_db_before:.1f} to {tuned.snr_db:.1f} dB"
    if tuned.accuracy_before is not None and tuned.accuracy is not None:
        told += f", {tuned.accuracy_before:.1%} to {tuned.accuracy:.1%} as labelled,"
    return told
