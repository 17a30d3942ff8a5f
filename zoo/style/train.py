"""Trains a network for one style or several: `train`."""

import contextlib
import dataclasses
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.data.dataset import Dataset
from zoo.data.pipeline import check_process, count_workers
from zoo.inference.batches import list_sources, name_source
from zoo.inference.images import ImageSource, is_single_image
from zoo.style.losses import make_style_loss
from zoo.style.network import StyleNetwork
from zoo.style.pixels import load_pixels
from zoo.style.run import StyleRun
from zoo.style.settings import StyleSettings
from zoo.style.step import StyleTraining
from zoo.style.styles import StyleError, Styles, load_styles
from zoo.training.run_folder import RunFolder, describe_images

# Settings that may change when a run goes on: they say only when it ends.
FREE = ("steps", "epochs", "minutes", "patience")
# What judges pictures where no network is given.
LOSS_MODEL = "VGG16"


def train(
    style: ImageSource | Mapping[str, ImageSource] | Iterable[ImageSource],
    photos: ImageSource | Iterable[ImageSource],
    *,
    folder: str | os.PathLike[str] | None = None,
    model: ModelWithWeights = LOSS_MODEL,
    start: Styles | str | os.PathLike[str] | None = None,
    content_layers: str | Iterable[str] | None = None,
    style_layers: str | Iterable[str] | None = None,
    settings: StyleSettings | None = None,
    licence: str = "",
    workers: int | None = None,
    verbose: bool = True,
    **changes: Any,
) -> Styles:
    """Trains a network that turns photos into pictures in a style.

        mine = zoo.style.train("painting.jpg", "photos/", folder="runs/painting", minutes=60)
        zoo.style.apply("cat.jpg", mine)

    Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155. Of several styles each has norms of its own
    in one network (Dumoulin et al. 2017, arXiv 1610.07629).

    Args:
      style: the style's image, or several, or {name: image}. Without names they are called as
        their files are.
      photos: a folder or several images, on which it trains. A few hundred do; some are held out.
      folder: where the run is kept: settings, states, metrics, previews of held-out photos, and in
        "model" the best network so far. The same call goes on where it was interrupted, or with
        more steps where it had ended. None keeps nothing.
      model: the network that judges the pictures, as `zoo.trained` takes it.
      start: styles, or the path of their checkpoint, with whose network it begins. A style that
        they have goes on with its own norms, any other begins with the mean of all.
      content_layers, style_layers: of the model; by default the usual ones, see `make_style_loss`.
      settings: of the training.
      licence: of the weights, to be noted with them.
      workers: processes that decode photos; by default about half of the cores. With processes, a
        script needs `if __name__ == "__main__":`.
      verbose: shows the progress on standard error.
      **changes: settings, in place of those of `settings`: see `StyleSettings`.

    Returns:
      The network with the weights that did best on the held-out photos.

    Raises:
      ImageError: a style is no image; there are no photos, or none can be read.
      StyleError: two styles have one name.
      ArgumentError: a setting is unknown or has a value that it does not take.
      NoWeightsError: there are no weights for the model.
      RunError: the folder holds another run.
      InterruptedTrainingError: it was told to stop, by SIGTERM or Ctrl-C.
      DivergenceError: the loss is not finite.
    """
    check_process()
    chosen = StyleSettings.of(settings, **changes)
    images = {
        name: load_pixels(source, chosen.style_size, shorter=True)
        for name, source in name_styles(style).items()
    }
    training_photos, held_out = split_photos(photos, chosen)
    begun = None if start is None else as_styles(start)
    if begun is None and chosen.norms_only:
        raise StyleError("norms_only needs start, a network whose kernels stay as they are")
    trained = as_trained(model)
    loss = make_style_loss(trained, chosen.loss_weights, content_layers, style_layers)
    first = _make_first(begun, tuple(images), chosen)
    facts = {
        "styles": list(images),
        "styles_digest": [zlib.crc32(pixels.tobytes()) for pixels in images.values()],
        "start": None if begun is None else [*begun.names, begun.extra.get("step")],
        "model": trained.info.model,
        "weights": trained.info.weights,
        "layers": [*loss.content_layers, *loss.style_layers],
        **describe_images(training_photos, held_out),
    }
    extra = {
        "settings": dataclasses.asdict(chosen),
        "loss_network": trained.info.model,
        "content_layers": list(loss.content_layers),
        "style_layers": list(loss.style_layers),
    }
    first = dataclasses.replace(first, noise=chosen.noise, licence=licence, extra=extra)
    grams = [
        loss.grams(trained.variables, jnp.asarray(pixels[None], jnp.float32) / 255)
        for pixels in images.values()
    ]
    stacked = jax.tree.map(lambda *each: jnp.concatenate(each), *grams)
    training = StyleTraining(first.network, loss, trained.variables, stacked, chosen)
    run_folder = None if folder is None else RunFolder(Path(folder))
    run = StyleRun(
        first,
        training,
        training_photos,
        held_out,
        chosen,
        begun is None,
        count_workers(training_photos) if workers is None else workers,
        run_folder,
        verbose,
    )
    with contextlib.ExitStack() as stack:
        # Last, so that a run that cannot begin leaves nothing in the folder.
        if run_folder is not None:
            stack.enter_context(run_folder.lock())
            run_folder.begin(facts, chosen, FREE)
        return run.train()


def as_styles(styles: Styles | str | os.PathLike[str]) -> Styles:
    """Styles as they are, or those of a checkpoint."""
    return styles if isinstance(styles, Styles) else load_styles(styles)


def name_styles(
    style: ImageSource | Mapping[str, ImageSource] | Iterable[ImageSource],
) -> dict[str, ImageSource]:
    """Images of styles by their names; StyleError where two have one name."""
    if isinstance(style, Mapping):
        named = [(str(name), source) for name, source in style.items()]
    else:
        sources: Any = [style] if is_single_image(style) else list(style)  # type: ignore[arg-type]
        named = [
            (Path(name_source(source, number)).stem, source)
            for number, source in enumerate(sources, start=1)
        ]
    if not named:
        raise StyleError("style must be at least one image, got none")
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise StyleError(f"two styles are called {name!r}; give {{name: image}}")
    return dict(named)


def split_photos(
    photos: ImageSource | Iterable[ImageSource], settings: StyleSettings
) -> tuple[Dataset, Dataset]:
    """Photos for training, and those that are held out; a single one serves for both."""
    sources = list_sources(photos)
    dataset = Dataset(images=sources, labels=np.zeros(len(sources), np.int32), classes=("photo",))
    if len(sources) < 2 or not settings.validation:
        return dataset, dataset
    order = np.random.default_rng(settings.seed).permutation(len(sources))
    count = min(max(1, round(settings.validation * len(sources))), len(sources) - 1)
    return dataset.select(np.sort(order[count:])), dataset.select(np.sort(order[:count]))


def _make_first(begun: Styles | None, names: tuple[str, ...], settings: StyleSettings) -> Styles:
    """A new network, or another one's, whose norms of the same style stay as they are.

    Other styles begin with the mean norms of all.
    """
    if begun is None:
        network = StyleNetwork(len(names), settings.width, settings.upsampling)
        x, weights = jnp.zeros((1, 32, 32, 3)), jnp.ones((1, len(names)))
        init = jax.jit(network.init)
        return Styles(network, init(jax.random.key(settings.seed), x, weights), names)
    known = begun.names

    def fit(path: Any, array: Any) -> Any:
        if path[-1].key not in ("scale", "shift"):
            return jnp.asarray(array)
        mean = jnp.asarray(array).mean(0)
        return jnp.stack([array[known.index(name)] if name in known else mean for name in names])

    network = begun.network.clone(styles=len(names))
    variables = jax.tree_util.tree_map_with_path(fit, begun.variables)
    return Styles(network, variables, names)
