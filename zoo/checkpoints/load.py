"""Loading of models with trained weights, and what else stands for one."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

from zoo.checkpoints.validate import build, check_arrays, has_head
from zoo.checkpoints.weights import load_weights
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, find_source, make_labels, make_trained
from zoo.models.base import Model, find_model
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.convert import default_preprocessing

# What a function takes as a model with weights.
ModelWithWeights = Trained | tuple[Model, Mapping[str, Any]] | str | Callable[..., Model]


def trained(
    model: str | Callable[..., Model], *, weights: str | os.PathLike[str] | None = None
) -> Trained:
    """Loads a model with trained weights.

    Weights are looked for among the embedded ones, in the cache (`ZOO_CACHE`), in the stores that
    `ZOO_STORES` lists, and at their publisher's, in this order; they are verified and kept in the
    cache.

    Args:
      model: a constructor such as `zoo.ResNet50`, or its name in any case.
      weights: the name of weights, such as "IMAGENET1K_V1"; a checkpoint's folder or archive; or
        an archive's address in a store. By default the embedded weights, or else the most accurate
        ones that may be used for any purpose.

    Raises:
      UnknownModelError: no model has that name.
      NoWeightsError: there are no weights for it, or none of that name.
      FetchError: the weights cannot be downloaded: OfflineError if `ZOO_OFFLINE` forbids it,
        DigestError if the file is not the one that was published.
      CheckpointError: the checkpoint is damaged, or another model's.
    """
    entry = find_model(model)
    variables, metadata = load_weights(entry, weights)
    try:
        built = build(variables, metadata, entry)
        info = make_info(built, variables, metadata)
        return make_trained(built, jax.device_put(variables), info)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the metadata of these weights cannot be used: {error}") from error


def make_info(model: Model, variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> Info:
    """The facts that a checkpoint's metadata hold, with defaults for those that they lack."""
    preprocessing = metadata.get("preprocessing")
    if preprocessing is None:
        preprocessing = _default_preprocessing(model)
    head, accuracy = has_head(variables, model), metadata.get("accuracy") or {}
    return Info(
        model=model.title,
        weights=metadata.get("weights") or "",
        source=find_source(metadata),
        licence=metadata.get("licence") or "",
        preprocessing=Preprocessing.from_metadata(preprocessing).for_channels(
            model.count_channels(variables) or 3
        ),
        labels=make_labels(metadata.get("labels"), model.num_classes if head else 0),
        top1=accuracy.get("top1"),
        head=head,
        box_map=accuracy.get("box_map"),
        metadata=json.dumps(metadata),
    )


def as_trained(model: Any, variables: Mapping[str, Any] | None = None) -> Trained:
    """A model with weights, whichever way it is given, with facts about it.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), a model's name or constructor,
        whose weights are loaded; or, together with `variables`, a definition.
      variables: in place of those of `model`.

    Returns:
      What `zoo.trained` returned, or a `Trained` whose facts are the defaults of the model's
      family.

    Raises:
      TypeError: it is something else.
      ValueError: the variables have no "params"; or, for a name, any error of `trained`.
    """
    if isinstance(model, str) or (callable(model) and not isinstance(model, Model | Trained)):
        if variables is None:
            return trained(model)
        model = find_model(model).constructor()
        check_arrays(variables, model)
    if isinstance(model, Trained):
        return model if variables is None else model.replace(variables=variables)
    given = model if variables is None else (model, variables)
    given = tuple(given) if isinstance(given, list) else given
    match given:
        case (Model() as definition, Mapping() as arrays):
            if not isinstance(arrays.get("params"), Mapping):
                raise ValueError(f'variables must have "params", got {list(arrays)}')
            return make_trained(definition, dict(arrays), make_info(definition, arrays, {}))
    raise TypeError(
        f"model must be what zoo.trained returns, a pair (model, variables) or a model's name, "
        f"got {_describe(given)}"
    )


def unpack(
    model: Any, variables: Mapping[str, Any] | None = None
) -> tuple[Model, Mapping[str, Any]]:
    """The definition and the variables of a model with weights; see `as_trained`."""
    found = as_trained(model, variables)
    return found.model, found.variables


def find_definition(model: Any) -> Model:
    """The definition of a model, whichever way it is given.

    Args:
      model: a definition such as `zoo.ResNet50()`, a constructor, its name, what `zoo.trained`
        returns, or a pair (model, variables).

    Raises:
      UnknownModelError: no model has that name.
      TypeError: it is something else.
    """
    if isinstance(model, Trained | tuple | list):
        model = unpack(model)[0]
    if isinstance(model, Model):
        return model
    if isinstance(model, str) or callable(model):
        return find_model(model).constructor()
    raise TypeError(
        f"model must be a definition such as zoo.ResNet50(), a constructor, its name, what "
        f"zoo.trained returns or a pair (model, variables), got {_describe(model)}"
    )


def _default_preprocessing(model: Model) -> dict[str, Any]:
    """What the models of a family usually take."""
    family = type(model).__module__.rpartition(".")[2]
    return default_preprocessing(family, max(model.usual_size, model.min_size))


def _describe(given: Any) -> str:
    if isinstance(given, tuple):
        return f"({', '.join(type(item).__name__ for item in given)})"
    return type(given).__name__
