"""`zoo serve`: classifies photos over HTTP."""

from typing import Annotated

import typer

import zoo
from zoo.cli.output import MAX_COUNT, print_line
from zoo.runtime import compiler
from zoo.runtime.extras import require
from zoo.runtime.memory import keep_memory

MAX_BATCH = 1024
MIB = 1 << 20


def serve(
    model: Annotated[str, typer.Option(help="A model with trained weights.")] = "EfficientNetLite0",
    weights: Annotated[
        str | None, typer.Option(help="Weights: a name, a folder, an archive or its address.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to serve at; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    batch_sizes: Annotated[
        str, typer.Option(help="The batches that programs are compiled for, in photos.")
    ] = "1,2,4,8",
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, max=60_000, help="How long a photo waits for others of its batch."),
    ] = 2.0,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, max=4096, help="The largest body of a request, in MiB.")
    ] = 16.0,
    queue: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Photos in hand before requests are refused.")
    ] = 256,
) -> None:
    """Serve a model over HTTP: POST photos to /classify, and get their classes as JSON."""
    for module in ("starlette", "uvicorn", "python_multipart"):
        require(module, "serve")
    from zoo.serve import server
    from zoo.serve.app import Limits

    sizes = _parse_sizes(batch_sizes)
    limits = Limits(max_body=round(max_body_mb * MIB), queue=queue, max_wait=max_wait_ms / 1e3)
    # Before the model is loaded, which takes longer than to see that the port is taken.
    with server.bind(host, port) as listener:
        keep_memory()  # large batches are faster by XLA's layers, where the C library can
        compiler.cache_compilations()
        compiled = _load(model, weights).compile(batch_sizes=sizes)
        name = compiled.info.model
        server.run(compiled, listener, limits, lambda address: print_line(f"{name} at {address}"))


def _load(model: str, weights: str | None) -> zoo.Trained:
    """A model that names what photos show."""
    trained = zoo.trained(model, weights=weights)
    if not trained.info.head:
        raise typer.BadParameter(f"{weights} have no classifier", param_hint="--weights")
    if trained.info.preprocessing.channels == "bands":
        raise typer.BadParameter(
            f"{model} takes arrays of {trained.channels} channels, which no photo has",
            param_hint="--model",
        )
    return trained


def _parse_sizes(text: str) -> tuple[int, ...]:
    """The numbers in a text such as "1,2,4"."""
    parts = [part.strip() for part in text.split(",")]
    sizes = [int(part) if part.isdecimal() and len(part) < 9 else 0 for part in parts]
    if not all(1 <= size <= MAX_BATCH for size in sizes):
        raise typer.BadParameter(
            f"expected numbers from 1 to {MAX_BATCH} as in 1,2,4, got {text!r}",
            param_hint="--batch-sizes",
        )
    return tuple(sorted(set(sizes)))
