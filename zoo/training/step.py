"""One step of training a classifier."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from zoo.models.base import Model
from zoo.models.layers import BatchNorm
from zoo.surgery.intercept import Call, intercept
from zoo.training import paths
from zoo.training.losses import count_correct, cross_entropy
from zoo_kernels import jit

# Of the loss of each auxiliary classifier (Szegedy et al. 2015, arXiv 1409.4842, section 5).
AUXILIARY_WEIGHT = 0.3

# (logits [N, classes], labels) → the loss of each example [N].
Loss = Callable[[jax.Array, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """What a training step makes small."""

    def __call__(
        self,
        model: Any,
        variables: Mapping[str, Any],
        images: jax.Array,
        labels: Any,
        key: jax.Array,
        *,
        weights: jax.Array,
        freeze_norms: Sequence[str],
    ) -> tuple[jax.Array, tuple[dict[str, Any], Metrics]]:
        """The loss of a batch, or of a part of one.

        Args:
          model, variables, images, labels, key: as for `classification_loss`.
          weights: of the images [N], whose sum over the batch is 1.
          freeze_norms: patterns of the norms that keep their statistics.

        Returns:
          (loss, (statistics, metrics)), of which parts of a batch are added.
        """


TrainStep = Callable[..., tuple["TrainState", Metrics]]


class TrainState(NamedTuple):
    """The values that a training step updates.

    Args:
      step: how many steps were made.
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}.
      optimizer: the optimizer's state.
      key: a random key; dropout of step n draws from `jax.random.fold_in(key, n)`.
      average: the exponential moving average of the variables, or None.
    """

    step: jax.Array
    variables: dict[str, Any]
    optimizer: Any
    key: jax.Array
    average: dict[str, Any] | None = None


def init_train_state(
    variables: Mapping[str, Any],
    optimizer: Any,
    key: jax.Array | None = None,
    *,
    trainable: str | Sequence[str] | None = None,
    average: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}. The first step
        donates these very arrays; give it a copy of what is used later.
      optimizer: one of optax.
      key: a random key; `jax.random.key(0)` by default.
      trainable: as for `make_train_step`.
      average: also averages the variables, as `make_train_step` with `average_decay` needs.
    """
    params, _ = paths.split(variables["params"], _as_patterns(trainable))
    return TrainState(
        jnp.zeros((), jnp.int32),
        dict(variables),
        optimizer.init(params),
        jax.random.key(0) if key is None else key,
        jax.tree.map(jnp.copy, dict(variables)) if average else None,
    )


def classification_loss(
    model: Model,
    variables: Mapping[str, Any],
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    weights: jax.Array | None = None,
    loss: Loss = cross_entropy,
    freeze_norms: Sequence[str] = (),
) -> tuple[jax.Array, tuple[dict[str, Any], jax.Array]]:
    """The mean loss of a batch in training, auxiliary classifiers included if there are any.

    Auxiliary logits are what a model sows into its collection "intermediates" in training.

    Args:
      model: not a fused one.
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}.
      images: normalised [N, H, W, C].
      labels: class numbers [N], or probabilities [N, classes].
      key: a random key for dropout.
      weights: of the examples [N]; the loss is the weighted sum. None gives the mean.
      loss: (logits, labels) → the loss of each example [N].
      freeze_norms: patterns of paths; the batch norms there normalise by their running statistics,
        which stay as they are. See `zoo.training.paths.matches`.

    Returns:
      (loss, (statistics, logits)): a scalar in float32 or better; {"batch_stats": …} if there are
      any.
    """
    with frozen_norms(freeze_norms):
        logits, updates = model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": key},
        )
    auxiliary_logits = jax.tree.leaves(updates.get("intermediates", {}))
    losses = [loss(y, labels) for y in (logits, *auxiliary_logits)]
    main, *auxiliary = (
        each.mean() if weights is None else (weights * each).sum() for each in losses
    )
    statistics = {name: tree for name, tree in updates.items() if name == "batch_stats"}
    return main + AUXILIARY_WEIGHT * sum(auxiliary), (statistics, logits)


@contextlib.contextmanager
def frozen_norms(patterns: Sequence[str]) -> Iterator[None]:
    """Lets the batch norms at some paths normalise by their running statistics, in training too."""

    def freeze(call: Call) -> Any:
        frozen = isinstance(call.module, BatchNorm) and paths.matches(call.path, patterns)
        return call.run(train=False) if frozen else call.run()

    with intercept(freeze):
        yield


def classify_objective(
    model: Model,
    variables: Mapping[str, Any],
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    weights: jax.Array,
    freeze_norms: Sequence[str] = (),
    loss: Loss = cross_entropy,
) -> tuple[jax.Array, tuple[dict[str, Any], Metrics]]:
    """`classification_loss` with the metric "accuracy": an `Objective`."""
    value, (statistics, logits) = classification_loss(
        model,
        variables,
        images,
        labels,
        key,
        weights=weights,
        loss=loss,
        freeze_norms=freeze_norms,
    )
    return value, (statistics, {"accuracy": count_correct(logits, labels, weights)})


def make_train_step(
    model: Model,
    optimizer: Any,
    *,
    trainable: str | Sequence[str] | None = None,
    loss: Loss = cross_entropy,
    objective: Objective | None = None,
    freeze_norms: Sequence[str] = (),
    accumulate: int = 1,
    average_decay: float | None = None,
    local_norms: Mesh | None = None,
    shardings: Any = None,
) -> TrainStep:
    """Compiles a step of training.

        optimizer = optax.adamw(1e-4)
        state = init_train_state(variables, optimizer)
        step = make_train_step(model, optimizer)
        for images, labels in batches:
            state, metrics = step(state, images, labels)

    A batch may be sharded over devices along its first axis; then the norms normalise by the
    statistics of the whole batch.

    Args:
      model: not a fused one.
      optimizer: one of optax, such as `optax.sgd(0.1, momentum=0.9)`.
      trainable: patterns of the paths of the parameters that are trained, such as "head" or
        ["stage4", "head"]; see `zoo.training.paths.matches`. None trains all. The optimizer sees
        only these, and gradients are computed only for these.
      loss: (logits, labels) → the loss of each example [N].
      objective: what is made small, in place of that loss.
      freeze_norms: patterns of paths; the batch norms there keep their running statistics.
      accumulate: in how many parts a batch is computed, one after the other, whose gradients are
        added: to make batches that memory does not hold at once. Norms see one part at a time.
      average_decay: of the exponential moving average of the variables, if the state has one. In
        the first steps it is less, (1 + step) / (10 + step), so that the average forgets its start.
      local_norms: a mesh of devices; each normalises by the statistics of its own part of a batch
        that is sharded over them. Variables must be replicated.
      shardings: of the state that a step returns, a `TrainState` of shardings; None leaves them to
        the compiler.

    Returns:
      (state, images, labels, weights=None) → (state, metrics). Images are normalised [N, H, W, C],
      labels class numbers [N] or probabilities [N, classes], weights those of the examples [N].
      Metrics: "loss" and "accuracy" (or those of the objective), weighted means, and "grad_norm".
      The state that is passed is donated: its memory is reused for the new state, and it must not
      be used again.

    Raises:
      ValueError: an argument is out of range; or, in the first step, a pattern matches nothing, the
        batch is no multiple of `accumulate`, or the state was made for another step.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate!r}")
    if average_decay is not None and not 0 <= average_decay < 1:
        raise ValueError(f"average_decay must be from 0 to below 1, got {average_decay!r}")
    patterns = _as_patterns(trainable)
    compute_loss = objective or functools.partial(classify_objective, loss=loss)

    def gradient(
        params: Any, fixed: Any, images: Any, labels: Any, weights: Any, key: Any
    ) -> tuple[Any, dict[str, Any], Metrics]:
        """→ gradients, new statistics, and sums of metrics."""

        def total_loss(params: Any) -> Any:
            variables = {**fixed, "params": paths.merge(params, fixed["params"])}
            return compute_loss(
                model, variables, images, labels, key, weights=weights, freeze_norms=freeze_norms
            )

        (value, (statistics, metrics)), gradients = jax.value_and_grad(total_loss, has_aux=True)(
            params
        )
        return gradients, statistics, {"loss": value, **metrics}

    compute = _accumulate(gradient, accumulate) if accumulate > 1 else gradient
    if local_norms is not None:
        compute = _compute_locally(compute, local_norms)

    def step(
        state: TrainState, images: jax.Array, labels: jax.Array, weights: jax.Array | None = None
    ) -> tuple[TrainState, Metrics]:
        variables = state.variables
        if trainable is not None:
            paths.check_patterns("trainable", patterns, variables["params"])
        if len(images) % accumulate:
            raise ValueError(
                f"accumulate is {accumulate}, which does not divide a batch of {len(images)}"
            )
        params, frozen = paths.split(variables["params"], patterns)
        expected: Any = jax.tree.structure(jax.eval_shape(optimizer.init, params))
        if expected != jax.tree.structure(state.optimizer):
            raise ValueError(
                "the state is of another optimizer, or of other trainable parameters, than the "
                f"step: give init_train_state the same optimizer and trainable={trainable!r}"
            )
        weights = jnp.ones(len(images), jnp.float32) if weights is None else weights
        gradients, statistics, metrics = compute(
            params,
            {**variables, "params": frozen},
            images,
            labels,
            # Without a single image that counts, the gradient is 0.
            weights / jnp.maximum(weights.sum(), 1e-30),
            jax.random.fold_in(state.key, state.step),
        )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        params = optax.apply_updates(params, updates)
        variables = {**variables, **statistics, "params": paths.merge(params, frozen)}
        average = state.average
        if average is not None and average_decay is not None:
            done = state.step.astype(jnp.float32)
            decay = jnp.minimum(average_decay, (1 + done) / (10 + done))
            average = optax.incremental_update(variables, average, 1 - decay)
        metrics = {**metrics, "grad_norm": optax.tree.norm(gradients)}
        state = TrainState(state.step + 1, variables, optimizer_state, state.key, average)
        return state, metrics

    if shardings is None:
        return jit(step, donate_argnums=0)
    return jit(step, donate_argnums=0, out_shardings=(shardings, None))


def _as_patterns(trainable: str | Sequence[str] | None) -> tuple[str, ...]:
    if trainable is None:
        return ("**",)
    return (trainable,) if isinstance(trainable, str) else tuple(trainable)


def _accumulate(gradient: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """The same function, computed on one part of the batch after the other."""

    def accumulated(params: Any, fixed: Any, *batch_and_key: Any) -> Any:
        *batch, key = batch_and_key
        # Every parts-th example, so that of a sharded batch each part is spread over all devices.
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(carry: Any, part: Any) -> Any:
            statistics, total = carry
            number, *examples = part
            gradients, new, metrics = gradient(
                params, {**fixed, **statistics}, *examples, jax.random.fold_in(key, number)
            )
            return (new, jax.tree.map(jnp.add, total, (gradients, metrics))), None

        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(gradient, params, fixed, *first, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[2]))
        statistics = {name: fixed[name] for name in shapes[1]}
        numbers = jnp.arange(parts)
        (statistics, (gradients, metrics)), _ = jax.lax.scan(
            add, (statistics, zeros), (numbers, *split)
        )
        return gradients, statistics, metrics

    return accumulated


def _compute_locally(gradient: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The same function, computed by each device on its part of the batch, and summed."""
    axes = mesh.axis_names

    def local(params: Any, fixed: Any, *batch_and_key: Any) -> Any:
        *batch, key = batch_and_key
        key = jax.random.fold_in(key, jax.lax.axis_index(axes))
        gradients, statistics, metrics = gradient(params, fixed, *batch, key)
        gradients, metrics = jax.lax.psum((gradients, metrics), axes)
        return gradients, jax.lax.pmean(statistics, axes), metrics

    whole, sharded = PartitionSpec(), PartitionSpec(axes)
    specs = (whole, whole, sharded, sharded, sharded, whole)
    # Gradients are summed here, and not by the transpose of a replicated parameter.
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
