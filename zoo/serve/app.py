"""The application: its routes, and what it answers to requests that it cannot serve."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from zoo.inference.images import ImageError
from zoo.serve import bodies
from zoo.serve.batching import Batcher, ClosedError, QueueFullError
from zoo.serve.bodies import RequestError
from zoo.serve.classifier import Classifier

MIB = 1 << 20
# Decoding and resizing release Python's lock; more threads would only take turns with the model's.
MAX_DECODERS = 4
RETRY_SECONDS = 1


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes, and how long it waits.

    Args:
      max_body: bytes of a request's body.
      queue: photos in hand at a time: being received, decoded, waiting or computed. A request for
        more is answered with 503.
      max_images: photos of one request.
      max_wait: seconds for which a photo waits for others of its batch.
      body_seconds: how long a client may take to send a body.
    """

    max_body: int = 16 * MIB
    queue: int = 256
    max_images: int = 64
    max_wait: float = 0.002
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Checks the fields; a request that fills the queue alone must be possible."""
        for name in ("max_body", "queue", "max_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        object.__setattr__(self, "max_images", min(self.max_images, self.queue))


def make_app(
    model: Classifier, limits: Limits | None = None, is_stopping: Callable[[], bool] | None = None
) -> Starlette:
    """The application that serves a model, for uvicorn or another ASGI server.

    Args:
      model: what to serve.
      limits: by default those of `Limits()`.
      is_stopping: whether `/health` tells callers to go elsewhere.
    """
    service = _Service(model, limits or Limits(), is_stopping or (lambda: False))
    app = Starlette(
        routes=[
            Route("/", service.describe),
            Route("/health", service.report_health),
            Route("/classify", service.classify, methods=["POST"]),
        ],
        exception_handlers={
            RequestError: _answer_request_error,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_failure,
        },
        lifespan=service.run,
    )
    app.router.redirect_slashes = False  # "/classify/" is 404, rather than an answer without JSON
    return app


class _Service:
    """What the routes share."""

    def __init__(self, model: Classifier, limits: Limits, is_stopping: Callable[[], bool]) -> None:
        self._model, self._limits, self._is_stopping = model, limits, is_stopping
        self._batcher = Batcher(
            model.probabilities,
            max_batch=max(model.batch_sizes),
            max_wait=limits.max_wait,
            max_in_hand=limits.queue,
        )
        self._decoders = concurrent.futures.ThreadPoolExecutor(
            min(MAX_DECODERS, os.cpu_count() or 1), thread_name_prefix="decoder"
        )

    @contextlib.asynccontextmanager
    async def run(self, app: Starlette) -> AsyncIterator[None]:
        """Computes batches while the application runs; then finishes what was accepted."""
        self._batcher.start()
        try:
            yield
        finally:
            await self._batcher.close()
            self._decoders.shutdown()

    async def describe(self, request: Request) -> Response:
        """GET /: what is served, within which limits, and how it is called."""
        info, limits = self._model.info, self._limits
        return _make_answer(
            {
                "model": info.model,
                "weights": info.weights,
                "licence": info.licence,
                "classes": len(info.labels),
                "size": self._model.size,
                "batch_sizes": list(self._model.batch_sizes),
                "limits": {
                    "body_bytes": limits.max_body,
                    "images": limits.max_images,
                    "queue": limits.queue,
                    "wait_ms": 1e3 * limits.max_wait,
                },
                "usage": f"POST /classify?top=5 with {bodies.ACCEPTED}",
            }
        )

    async def report_health(self, request: Request) -> Response:
        """GET /health: whether requests are taken."""
        if self._is_stopping():
            return _make_answer({"status": "stopping"}, 503)
        return _make_answer({"status": "ok"})

    async def classify(self, request: Request) -> Response:
        """POST /classify: the likeliest classes of each photo."""
        top = _read_top(request)
        content_type = request.headers.get("content-type", "")
        bodies.check_type(content_type, request.headers.get("content-encoding", ""))
        try:
            with self._batcher.admit() as admission:
                body = await self._receive(request, content_type)
                admission.extend(len(body.images) - 1)
                count = self._count_top(top, body.top)
                photos = await self._decode(body.images)
                del body  # which may be large, while the photos wait
                rows = await asyncio.gather(*(admission.compute(photo) for photo in photos))
        except QueueFullError as error:
            raise RequestError(503, f"the queue is full: {error}; try again", _RETRY) from None
        except ClosedError:
            raise RequestError(503, "the server is stopping", _RETRY) from None
        ranked = self._model.rank_labels(np.stack(rows), count)
        return _make_answer(
            {
                "model": self._model.info.model,
                "predictions": [
                    [
                        {"label": label.name, "synset": label.synset, "probability": probability}
                        for label, probability in classes
                    ]
                    for classes in ranked
                ],
            },
            # So that the client sends no more requests on a connection that is about to be closed.
            headers=_CLOSE if self._is_stopping() else None,
        )

    async def _receive(self, request: Request, content_type: str) -> bodies.Body:
        data = await self._read_body(request)
        if bodies.is_image(content_type):
            return bodies.Body([data])
        loop, limit = asyncio.get_running_loop(), self._limits.max_images
        parse = bodies.parse_body
        return await loop.run_in_executor(self._decoders, parse, content_type, data, limit)

    async def _read_body(self, request: Request) -> bytes:
        """All of the body; as soon as it is too large or too slow, RequestError."""
        limit, seconds = self._limits.max_body, self._limits.body_seconds
        length = request.headers.get("content-length", "")
        body = bytearray()
        if length.isdecimal() and (len(length) > 18 or int(length) > limit):
            raise _too_large(limit)
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            # Closed, or the rest would still be received.
            raise RequestError(408, f"the body took over {seconds:g} seconds", _CLOSE) from None
        return bytes(body)

    async def _decode(self, images: list[bytes]) -> list[np.ndarray]:
        """Photos [H, W, C] of encoded images; RequestError if one is no image."""
        loop = asyncio.get_running_loop()
        # Bytes alone, never a text: that would be a path, and would be opened.
        jobs = [
            loop.run_in_executor(self._decoders, self._model.preprocess, image) for image in images
        ]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        photos = []
        for number, result in enumerate(results, 1):
            if isinstance(result, ImageError):
                name = "the image" if len(images) == 1 else f"image {number}"
                raise RequestError(400, str(result).replace("the image", name, 1))
            if isinstance(result, BaseException):
                raise result
            photos.append(result[0])
        return photos

    def _count_top(self, query: int | None, body: int | None) -> int:
        """How many classes to name; RequestError if there are not as many."""
        if query is not None and body is not None:
            raise RequestError(400, "top is given twice, in the address and in the body")
        classes = len(self._model.info.labels)
        top = query if query is not None else body
        if top is None:
            return self._model.count_top()
        if not 1 <= top <= classes:
            raise RequestError(400, f"top must be from 1 to {classes}, got {top}")
        return top


_RETRY = {"Retry-After": str(RETRY_SECONDS)}
_CLOSE = {"Connection": "close"}


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body has more than {limit} bytes, which is the limit")


def _read_top(request: Request) -> int | None:
    """The number of classes that the address asks for."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name != "top":
            raise RequestError(400, f"the parameter {name!r} is unknown; there is only 'top'")
    if len(given) > 1:
        raise RequestError(400, "top is given twice")
    return bodies.parse_top(given[0][1]) if given else None


def _make_answer(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    # In ASCII: what a client sent and gets back may be no valid text.
    text = json.dumps(content, allow_nan=False).encode()
    return Response(text, status, headers, media_type=bodies.JSON)


async def _answer_request_error(request: Request, error: Any) -> Response:
    return _make_answer({"error": str(error)}, error.status, error.headers)


async def _answer_http_error(request: Request, error: Any) -> Response:
    """404 and 405, which starlette raises."""
    known = "there are GET /, GET /health and POST /classify"
    return _make_answer({"error": f"{error.detail}: {known}"}, error.status_code, error.headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client is gone; nothing is sent, and there is nothing to log."""
    return Response(status_code=400)


async def _answer_failure(request: Request, error: Exception) -> Response:
    """An error of the server, which the ASGI server logs: starlette raises it again."""
    return _make_answer({"error": "the server failed at this request; its log says how"}, 500)
