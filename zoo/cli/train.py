"""`zoo train`: trains or fine-tunes a classifier on a folder of photos, or a known data set."""

from pathlib import Path
from typing import Annotated, Any

import jax
import typer

import zoo
from zoo.cli.arguments import parse_arguments
from zoo.cli.output import MAX_COUNT, MAX_SIZE, print_error, print_line
from zoo.models.base import Model
from zoo.runtime import compiler

Data = Annotated[
    str,
    typer.Argument(
        help="A folder of classes, a CSV file, or a known set: digits, cifar10, cifar100, mnist, "
        "fashion-mnist, imagenet, mura."
    ),
]
Folder = Annotated[
    Path | None, typer.Argument(help="Where a known set is.", show_default="downloaded")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, max=1024, help="Processes that decode photos.", show_default="half of the cores"
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="The name of a recipe, or a .toml file of settings; see docs/training.md.",
        show_default="that of the data set, or finetune",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Weights to begin with: a name, a folder, an archive or its address."),
]
Scratch = Annotated[bool, typer.Option("--scratch", help="Begin with random weights.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/DATA-MODEL")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training photos.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, max=MAX_COUNT, help="Photos in a step, over all devices.")
]
Rate = Annotated[float | None, typer.Option(help="The highest learning rate.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_SIZE, help="Height and width of the photos, in pixels."),
]
Seed = Annotated[int | None, typer.Option(help="Of all that is random.")]
OtherSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting as NAME=VALUE, such as clip_norm=1."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--argument",
        help="Argument of the model's constructor, as NAME=JSON, where its weights are random.",
    ),
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write the metrics for TensorBoard too.")
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Work together with the other processes of this job, of SLURM, Open MPI, Kubernetes "
        "or a TPU pod; see docs/training.md.",
    ),
]


def default_model(data: str) -> str:
    """The model for a data set: MURA has one of its own."""
    return "DenseNet169" if data == "mura" else "EfficientNetLite0"


def join_processes(distributed: bool) -> None:
    """Lets jax see the devices of all processes of the job."""
    if distributed:
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            cause = str(error).partition("\n")[0]
            raise typer.BadParameter(
                f"no other processes are found: {cause}", param_hint="--distributed"
            ) from error


def train(
    data: Data,
    folder: Folder = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model, such as ResNet50.",
            show_default="EfficientNetLite0; for mura DenseNet169",
        ),
    ] = None,
    weights: Weights = None,
    scratch: Scratch = False,
    recipe: Recipe = None,
    out: Out = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    rate: Rate = None,
    size: Size = None,
    seed: Seed = None,
    settings: OtherSettings = None,
    channels: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Channels of the images: 1 for grey ones.")
    ] = None,
    arguments: Arguments = None,
    workers: Workers = None,
    tensorboard: TensorBoard = False,
    distributed: Distributed = False,
) -> None:
    """Train or fine-tune a classifier; the same command goes on where it was interrupted."""
    from zoo.training.fit import choose_settings
    from zoo.training.settings import RECIPES

    join_processes(distributed)
    compiler.cache_compilations()
    given = {"epochs": epochs, "batch_size": batch_size, "rate": rate, "size": size, "seed": seed}
    changes = parse_settings(settings, given)
    if recipe is None and (RECIPES / f"{data}.toml").exists():
        recipe = data
    # What is wrong with these is told before weights are downloaded.
    chosen = choose_settings(recipe, scratch, changes)
    splits = zoo.data.load(data, folder, validation=chosen.validation, seed=chosen.seed)
    start = find_start(model or default_model(data), weights, scratch, arguments or [])
    title = start.title if isinstance(start, Model) else start.info.model
    out = out or Path("runs", f"{Path(data).stem}-{title}")
    trained = run_training(
        start,
        splits,
        settings=chosen,
        folder=out,
        channels=channels,
        workers=workers,
        tensorboard=tensorboard,
    )
    _report(trained, out)


def run_training(start: zoo.Trained | Model, splits: Any, **options: Any) -> zoo.Trained:
    """`zoo.training.fit`; leaves the program with the signal's exit code if it is interrupted."""
    try:
        return zoo.training.fit(start, splits, **options)
    except zoo.training.InterruptedTrainingError as interrupted:
        print_error(interrupted)
        raise typer.Exit(128 + interrupted.signal_number) from interrupted


def parse_settings(settings: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the command line: those of --set, and options of their own."""
    from zoo.training.settings import parse

    changes: dict[str, Any] = parse_arguments(settings or [], "--set", parse, "VALUE")
    return changes | {name: value for name, value in given.items() if value is not None}


def find_start(
    model: str, weights: str | None, scratch: bool, arguments: list[str]
) -> zoo.Trained | Model:
    """What the training begins with: weights, or a definition."""
    if scratch:
        if weights is not None:
            raise typer.BadParameter("goes without --scratch", param_hint="--weights")
        try:
            return zoo.create(model, **parse_arguments(arguments))
        except (TypeError, ValueError) as error:
            if isinstance(error, zoo.UnknownModelError):
                raise
            raise typer.BadParameter(str(error), param_hint="--argument") from error
    if arguments:
        raise typer.BadParameter("goes with --scratch", param_hint="--argument")
    return zoo.trained(model, weights=weights)


def _report(trained: zoo.Trained, out: Path) -> None:
    """Says how good the model is, and where it is."""
    from zoo.training.reporting.formats import format_metric
    from zoo.training.reporting.record import read_record

    accuracies = [
        line["validation_accuracy"]
        for line in read_record(out / "metrics.jsonl")
        if line.get("validation_accuracy") is not None
    ]
    if accuracies:
        print_line(f"accuracy on the validation photos: {format_metric('top1', max(accuracies))}")
    print_line(f"report: {out / 'report.html'}")
    print_line(f"model: {out / 'model'}")
    print_line(f"use it: zoo classify PHOTO --model {trained.info.model} --weights {out / 'model'}")
