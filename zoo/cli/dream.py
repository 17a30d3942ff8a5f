"""`zoo dream`: pictures and videos of what a model sees in a photo."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo import deep_dream
from zoo.cli.output import MAX_COUNT, MAX_SIZE, print_line
from zoo.cli.progress import show_progress
from zoo.deep_dream.dream import SIZE, DreamOptions
from zoo.deep_dream.octaves import Settings
from zoo.deep_dream.video import FPS, ZOOM
from zoo.inference.video import VIDEO_ENDINGS
from zoo.runtime import compiler
from zoo.visualize.pictures import ENDINGS, check_ending


def dream(
    photo: Annotated[
        str | None,
        typer.Argument(help="A photo, or - for standard input.", show_default="begin with noise"),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="A layer to make stronger, PATH or PATH=WEIGHT. Several times: all together.",
            show_default="one in the later half of the model",
        ),
    ] = None,
    guide: Annotated[
        str | None, typer.Option(help="A photo whose features the dream takes up.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"The file to write: {', '.join(ENDINGS)}; with --zoom-frames "
            f"{', '.join(VIDEO_ENDINGS)}.",
            show_default="PHOTO-dream.png, or .mp4",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A model with weights.")] = "EfficientNetLite0",
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    octaves: Annotated[
        int, typer.Option(min=1, max=64, help="Number of sizes, from small to large.")
    ] = Settings.octaves,
    scale: Annotated[
        float, typer.Option(help="Ratio of one octave's size to the one before, above 1.")
    ] = Settings.scale,
    steps: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Steps in each octave.")
    ] = Settings.steps,
    step_size: Annotated[
        float, typer.Option(help="Mean change of a pixel in a step; white is 1.")
    ] = Settings.step_size,
    jitter: Annotated[
        int, typer.Option(min=0, max=MAX_SIZE, help="Largest random shift in a step, in pixels.")
    ] = Settings.jitter,
    total_variation: Annotated[
        float, typer.Option("--tv", help="Total variation: 0.1 to 0.5 smooth the picture.")
    ] = Settings.total_variation,
    tile: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_SIZE,
            help="Largest side of tiles, a multiple of 32; smaller: less memory.",
        ),
    ] = Settings.tile,
    size: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_SIZE, help="Longer side, to which a photo is reduced; 0: its own size."
        ),
    ] = SIZE,
    zoom_frames: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="Write a video of so many frames, zooming in."),
    ] = None,
    zoom: Annotated[
        float | None,
        typer.Option(help="Enlargement from frame to frame.", show_default=str(ZOOM)),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second.", show_default=str(FPS))
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
) -> None:
    """Dream: change a photo until a model sees more in it of what it looks for."""
    path = _check_out(out, photo, zoom_frames)
    if zoom_frames is None and (zoom is not None or fps is not None):
        raise typer.BadParameter(
            "is for a video; give --zoom-frames too",
            param_hint="--fps" if zoom is None else "--zoom",
        )
    layers = _parse_layers(layer) if layer else None
    compiler.cache_compilations()
    trained = zoo.trained(model, weights=weights)
    image: Any = sys.stdin.buffer if photo == "-" else photo
    options: DreamOptions = {
        "guide": guide,
        "octaves": octaves,
        "scale": scale,
        "steps": steps,
        "step_size": step_size,
        "jitter": jitter,
        "total_variation": total_variation,
        "tile": tile,
        "size": size or None,
        "seed": seed,
    }
    with show_progress("dreaming") as progress:
        options["progress"] = progress
        if zoom_frames is None:
            deep_dream.dream(trained, image, layers=layers, **options).save(path)
        else:
            deep_dream.dream_video(
                trained,
                image,
                path,
                layers=layers,
                frames=zoom_frames,
                zoom=ZOOM if zoom is None else zoom,
                fps=FPS if fps is None else fps,
                **options,
            )
    print_line(path)


def _check_out(out: Path | None, photo: str | None, zoom_frames: int | None) -> Path:
    """The file to write, checked before anything is computed."""
    if out is None:
        stem = "noise" if photo is None else "photo" if photo == "-" else Path(photo).stem
        out = Path(f"{stem}-dream{'.png' if zoom_frames is None else VIDEO_ENDINGS[0]}")
    ending = out.suffix.lower()
    if zoom_frames is None and ending in VIDEO_ENDINGS:
        raise typer.BadParameter(f"{out} is a video; give --zoom-frames too", param_hint="--out")
    if zoom_frames is not None and ending in ENDINGS:
        raise typer.BadParameter(
            f"{out} is a picture, and --zoom-frames make a video: {', '.join(VIDEO_ENDINGS)}",
            param_hint="--out",
        )
    return check_ending(out, ENDINGS if zoom_frames is None else VIDEO_ENDINGS)


def _parse_layers(layers: list[str]) -> dict[str, float]:
    """{path: weight} of words "PATH" or "PATH=WEIGHT"."""
    weights = {}
    for word in layers:
        path, equals, weight = word.partition("=")
        try:
            weights[path] = float(weight) if equals else 1.0
        except ValueError:
            raise typer.BadParameter(
                f"{word!r} must be PATH or PATH=WEIGHT with a number", param_hint="--layer"
            ) from None
    return weights
