"""`zoo style apply` and `zoo style list`: photos and videos in trained styles."""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo.cli.arguments import parse_arguments
from zoo.cli.output import print_error, print_line
from zoo.cli.progress import show_progress
from zoo.inference.images import find_photos
from zoo.inference.video import VIDEO_ENDINGS, is_video
from zoo.runtime import compiler
from zoo.style.apply import MIN_SIDE, TILE, StyleOptions, apply_all, apply_video, find_styles
from zoo.style.pixels import MAX_SIDE
from zoo.style.styles import Styles
from zoo.visualize.pictures import ENDINGS, check_ending

# Where several photos go.
FOLDER = Path("styled")


def apply(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photos, folders of photos, a video, or - for standard input."),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            help="A style's name (zoo style list), or a checkpoint. Several times, as "
            "NAME=WEIGHT: blended.",
            show_default="the only one",
        ),
    ] = None,
    styles: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint whose styles are meant, as zoo style train writes it.",
            show_default="those of the package",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=MIN_SIDE,
            max=MAX_SIDE,
            help="Longer side of the pictures; larger: finer strokes.",
            show_default="the photo's own",
        ),
    ] = None,
    keep_colors: Annotated[
        bool, typer.Option("--keep-colors", help="Keep the photo's colours.")
    ] = False,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="From 0, the photo, to 1, the style.")
    ] = 1.0,
    tile: Annotated[
        int,
        typer.Option(
            max=MAX_SIDE, help="Largest side of tiles, a multiple of 32; smaller: less memory."
        ),
    ] = TILE,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"The file to write: {', '.join(ENDINGS)}; of a video {', '.join(VIDEO_ENDINGS)}; "
            "of several photos or a folder, a folder.",
            show_default=f"PHOTO-STYLE.png, VIDEO-STYLE.mp4, {FOLDER}",
        ),
    ] = None,
) -> None:
    """Paint photos or a video in a style."""
    if "" in photos:
        raise typer.BadParameter("a photo has no name", param_hint="PHOTOS")
    compiler.cache_compilations()
    found, wanted = _find_style(style or [], styles)
    named = zip(found.names, found.weigh(wanted), strict=True)
    title = "-".join(name for name, weight in named if weight)
    options: StyleOptions = {
        "styles": found,
        "size": size,
        "keep_colors": keep_colors,
        "strength": strength,
        "tile": tile,
    }
    if not any(map(is_video, photos)):
        _paint_photos(_plan(photos, out, title), wanted, options)
    elif len(photos) > 1:
        raise typer.BadParameter("a video goes alone", param_hint="PHOTOS")
    else:
        path = check_out(out, photos[0], title, VIDEO_ENDINGS)
        _paint_video(photos[0], path, wanted, options)


def _find_style(words: list[str], styles: str | None) -> tuple[Styles, Any]:
    """The network, and the style or the blend of it that is meant."""
    wanted: Any = words[0] if words else None
    if len(words) > 1 or (words and "=" in words[0] and not Path(words[0]).is_dir()):
        texts = [word if "=" in word else f"{word}=1" for word in words]
        wanted = parse_arguments(texts, "--style", lambda name, value: float(value), "WEIGHT")
    found, name = find_styles(wanted, styles)
    if name is None and len(found.names) > 1:
        checkpoint = wanted and f" of --styles {wanted}"
        raise typer.BadParameter(
            f"name one{checkpoint or ''}: {', '.join(found.names)}", param_hint="--style"
        )
    return found, name


def _plan(photos: list[str], out: Path | None, title: str) -> list[tuple[str | Path, Path]]:
    """Photos one by one, and the files to write, checked before anything is computed."""
    if len(photos) == 1 and not Path(photos[0]).is_dir():
        return [(photos[0], check_out(out, photos[0], title))]
    folder = FOLDER if out is None else out
    if not folder.is_dir() and (folder.exists() or folder.suffix.lower() in ENDINGS):
        raise typer.BadParameter(f"{folder} is a file; photos go into a folder", param_hint="--out")
    pairs: list[tuple[str | Path, Path]] = []
    taken, written = set[str](), folder.resolve()
    for photo in photos:
        for source in [photo] if photo == "-" else find_photos([photo]):
            # What this command wrote before, below a folder of photos, is none of them.
            parents = Path(source).resolve().parents
            if written in parents and Path(photo).resolve() in written.parents:
                continue
            name = stem = stem_of(source)
            numbers = itertools.count(2)
            while name.casefold() in taken:
                name = f"{stem}-{next(numbers)}"
            taken.add(name.casefold())
            pairs.append((source, folder / f"{name}.png"))
    protect((source for source, _ in pairs), (path for _, path in pairs))
    return pairs


def check_out(out: Path | None, photo: str, title: str, endings: tuple[str, ...] = ENDINGS) -> Path:
    """The file to write of one photo or video, checked before anything is computed."""
    part = "".join(c if c.isalnum() or c in "-_." else "-" for c in title)[:100]
    path = Path(f"{stem_of(photo)}-{part}{endings[0]}") if out is None else out
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file", param_hint="--out")
    check_ending(path, endings)
    protect([photo], [path])
    return path


def stem_of(photo: str | Path) -> str:
    """What the files made of a photo are called, without their ending."""
    return "photo" if photo == "-" else Path(photo).stem


def protect(photos: Iterable[str | Path], paths: Iterable[Path]) -> None:
    """Refuses to write over photos."""
    kept = {Path(photo).resolve() for photo in photos}
    for path in paths:
        if path.resolve() in kept:
            raise typer.BadParameter(f"{path} is one of the photos", param_hint="--out")


def _paint_photos(
    pairs: list[tuple[str | Path, Path]],
    wanted: str | Mapping[str, float] | None,
    options: StyleOptions,
) -> None:
    sources: list[Any] = [sys.stdin.buffer if source == "-" else source for source, _ in pairs]
    written: list[Path] = []
    errors: list[str] = []
    start = time.perf_counter()
    with show_progress("painting") as progress:
        painted = apply_all(sources, wanted, progress=progress, **options)
        for (_, path), (name, picture, error) in zip(pairs, painted, strict=True):
            if picture is None:
                errors.append(str(error) if name in str(error) else f"{name}: {error}")
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            written.append(path)
    for path in written:
        print_line(path)
    _print_time("photo", len(written), time.perf_counter() - start)
    for message in errors:
        print_error(message)
    if errors:
        raise typer.Exit(1)


def _paint_video(
    video: str, path: Path, wanted: str | Mapping[str, float] | None, options: StyleOptions
) -> None:
    frames, start = 0, time.perf_counter()
    with show_progress("painting") as show:

        def progress(done: int, total: int) -> None:
            nonlocal frames
            frames = done
            show(done, total)

        apply_video(video, path, wanted, progress=progress, **options)
    print_line(path)
    _print_time("frame", frames, time.perf_counter() - start)


def _print_time(what: str, count: int, seconds: float) -> None:
    """Says on standard error how long it took."""
    if not count:
        return
    text = f"{count} {what}{'s' if count > 1 else ''} in {_format_seconds(seconds)}"
    if count > 1:
        text += f", {_format_seconds(seconds / count)} each"
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def list_styles() -> None:
    """List the styles that come with the package."""
    for name in zoo.style.list_styles():
        print_line(name)
