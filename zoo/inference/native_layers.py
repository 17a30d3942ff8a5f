"""Replaces a fused model's layers by those of `zoo_kernels.native`, for inference on a CPU.

The model is traced twice under an interceptor: first the layers' weights are collected and packed,
then the layers are replaced. A layer may leave its work to the next one, which does both at once:
what it returns is then no array but a `Deferred`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.models.base import Model
from zoo.models.densenet import BOTTLENECK, COMPRESSION, DenseLayer, Transition
from zoo.models.fold import fold_norms
from zoo.models.inverted_residual import InvertedResidual
from zoo.models.layers import BatchNorm, Conv, Dense, MaxPool
from zoo.surgery.features import Backbone
from zoo.surgery.intercept import Call, intercept
from zoo_kernels import native
from zoo_kernels.core.window import Window, resolve_pool, resolve_window

if TYPE_CHECKING:
    from zoo.inference.trained import Trained

# Packed weights by a layer's path: {"kernel": …, "bias": …}.
Packed = dict[str, dict[str, Any]]


class Deferred(NamedTuple):
    """An array that the next layer computes.

    Args:
      parts: arrays [N, H, W, Ci], to be concatenated.
      expansion: packed weights, bias and activation of a 1x1 convolution of the one part, or None.
      channels: of the result.
    """

    parts: tuple[jax.Array, ...]
    channels: int
    expansion: tuple[jax.Array, jax.Array, str] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C]."""
        return (*self.parts[0].shape[:3], self.channels)


class NativeProgram(NamedTuple):
    """A model on native layers.

    Args:
      function: (weights, x, *args) → what was asked for.
      weights: those that are packed, by layer, and the variables that are not.
      remaining: the paths of the convolutions that stay XLA's.
    """

    function: Callable[..., Any]
    weights: tuple[Packed, Any]
    remaining: tuple[str, ...]


def why_not_native(
    model: Model, variables: Mapping[str, Any], *, compiles: bool = True
) -> str | None:
    """Why a model's layers cannot be native here; None if they can.

    Args:
      model, variables: fused or plain.
      compiles: let the native layers be compiled, if that was not done before.
    """
    if jax.default_backend() != "cpu":
        return f"is for CPUs, and jax runs on {jax.default_backend()}"
    arrays = jax.tree.leaves(variables)
    if model.dtype != jnp.float32 or any(array.dtype != jnp.float32 for array in arrays):
        return "computes in float32 only"
    if model.is_imported:
        return "is for the zoo's own models, and this one was imported"
    return native.unavailable(compiles=compiles)


def replace_layers(
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    shape: tuple[int, ...],
    *args: jax.ShapeDtypeStruct,
) -> NativeProgram:
    """Rewrites a fused model's inference in float32.

    Args:
      apply: (variables, x, *args) → what is asked for, such as `model.apply` of one with
        remat=False.
      variables: of the fused model.
      shape: of images [N, H, W, C]; others will do as well.
      *args: the shapes of further arguments.

    Raises:
      zoo_kernels.native.build.BuildError: there are no native layers on this machine.
    """
    packed: Packed = {}
    remaining: list[str] = []
    pack = functools.partial(_pack_layer, packed, remaining)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    jax.eval_shape(lambda *inputs: _run_with(pack, apply, variables, *inputs), images, *args)

    def function(weights: tuple[Packed, Any], x: jax.Array, *args: jax.Array) -> Any:
        packed, others = weights
        x = jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jnp.floating):  # the model refuses others
            x = x.astype(jnp.float32)
        return _run_with(_Replacement(packed), apply, others, x, *args)

    return NativeProgram(function, (packed, _leave_out(variables, packed)), tuple(remaining))


def run_natively(
    trained: "Trained",
    make_apply: Callable[[Any], Callable[..., Any]],
    *args: jax.ShapeDtypeStruct,
) -> Callable[..., Any] | None:
    """A function of images by native layers, where they are compiled already; None elsewhere.

    Args:
      trained: the model; its batch norms are folded.
      make_apply: (definition) → (variables, x, *args) → what is asked for.
      *args: the shapes of further arguments, for one image.
    """
    model, variables = trained
    if jax.device_count() > 1:  # images may be sharded, which these layers would gather
        return None
    if why_not_native(model, variables, compiles=False) is not None:
        return None
    if not model.fused:
        model, variables = fold_norms(model, variables)
    size = trained.info.preprocessing.size
    apply = make_apply(model.clone(remat=False))
    program = replace_layers(apply, variables, (1, size, size, trained.channels), *args)
    return functools.partial(kernels.jit(program.function), jax.device_put(program.weights))


def _run_with(handler: Callable[[Call], Any], apply: Any, variables: Any, *inputs: Any) -> Any:
    with intercept(handler):
        return apply(variables, *inputs)


def _leave_out(tree: Mapping[str, Any], packed: Packed) -> dict[str, Any]:
    """The variables without those of layers that are packed."""

    def prune(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
        children = {name: f"{path}/{name}".lstrip("/") for name in tree}
        return {
            name: prune(child, children[name]) if isinstance(child, Mapping) else child
            for name, child in tree.items()
            if children[name] not in packed
        }

    return {**tree, "params": prune(tree["params"], "")}


def _pack_layer(packed: Packed, remaining: list[str], call: Call) -> Any:
    """Collects the packed weights of layers that can be native, and the paths of the others."""
    module: Any = call.module
    if isinstance(module, Conv | Dense):
        params = module.variables["params"]
        features, depthwise = module.features, isinstance(module, Conv) and module.groups > 1
        if isinstance(module, Dense) or _is_native(call):
            kernel, bias = np.asarray(params["kernel"]), params.get("bias", np.zeros(features))
            kernel = kernel.reshape(1, 1, *kernel.shape) if kernel.ndim == 2 else kernel
            packed[call.path] = {
                "kernel": native.pack(kernel, depthwise),
                "bias": native.pad_channels(np.asarray(bias, np.float32)),
            }
        else:
            remaining.append(call.path)
    return call.run()


def _is_native(call: Call) -> bool:
    """Whether a convolution can be native."""
    module: Any = call.module
    channels = call.args[0].shape[-1]
    depthwise = module.groups == channels == module.features and _residual(call) is None
    return module.act in native.ACTS and (module.groups == 1 or depthwise)


def _residual(call: Call) -> Any:
    """What a convolution adds to its result."""
    names = ("x", "train", "residual")
    return {**dict(zip(names, call.args, strict=False)), **call.kwargs}.get("residual")


class _Replacement:
    """Handles the calls of layers whose weights are packed."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._expanding: set[str] = set()  # paths of convolutions that the next one computes
        self._read: set[str] = set()  # paths of modules whose outputs a detector reads, too
        self._rules: dict[type, Callable[[Call], Any]] = {
            Conv: self._conv,
            Dense: self._dense,
            MaxPool: self._max_pool,
            InvertedResidual: self._inverted_residual,
            DenseLayer: self._dense_layer,
            Transition: self._transition,
            Backbone: self._backbone,
            BatchNorm: self._batch_norm,
        }

    def __call__(self, call: Call) -> Any:
        rule = self._rules.get(type(call.module))
        return call.run() if rule is None else rule(call)

    def _conv(self, call: Call) -> Any:
        if call.path not in self._packed:
            return call.run()
        module: Any = call.module
        x = call.args[0]
        weights = self._packed[call.path]
        arrays = weights["kernel"], weights["bias"]
        if call.path in self._expanding:
            self._expanding.remove(call.path)
            return Deferred((x,), module.features, (*arrays, module.act))
        window = resolve_window(
            "conv",
            x,
            (module.kernel_size,) * 2,
            module.strides,
            module.explicit_padding,
            module.dilation,
            module.groups,
        )
        if module.groups > 1:
            source, expansion = (x.parts[0], x.expansion) if isinstance(x, Deferred) else (x, None)
            return native.depthwise_conv(
                source, *arrays, window=window, act=module.act, expansion=expansion
            )
        return native.conv(
            [x],
            *arrays,
            outputs=module.features,
            window=window,
            act=module.act,
            residual=_residual(call),
        )

    def _dense(self, call: Call) -> Any:
        if call.path not in self._packed:
            return call.run()
        module: Any = call.module
        x = call.args[0][:, None, None]
        y = self._pointwise(call.path, (x,), module.features, module.act)
        return y[:, 0, 0]

    def _max_pool(self, call: Call) -> Any:
        module: Any = call.module
        x = call.args[0]
        pads = module.pads(x.shape[1:3])
        x, window = resolve_pool("max_pool", x, module.size, module.strides, pads, module.dilation)
        return native.max_pool(x, window)

    def _inverted_residual(self, call: Call) -> Any:
        """The depthwise convolution expands the channels where it needs them."""
        expand, depthwise = (f"{call.path}/{name}/conv" for name in ("expand", "depthwise"))
        is_read = f"{call.path}/expand" in self._read
        if {expand, depthwise} <= self._packed.keys() and not is_read:
            self._expanding.add(expand)
        return call.run()

    def _backbone(self, call: Call) -> Any:
        module: Any = call.module
        self._read |= {f"{call.path}/{path}".lstrip("/") for _, path in module.paths}
        return call.run()

    def _dense_layer(self, call: Call) -> Any:
        """The first convolution concatenates and normalises what it reads."""
        module: Any = call.module
        parts, channels = _parts(call.args[0])
        growth = module.config.growth_rate
        inner = BOTTLENECK * growth
        path = f"{call.path}/bottleneck/conv"
        y = self._pointwise(path, parts, inner, "relu", norm=_norm(module))
        weights = self._packed[f"{call.path}/grow"]
        window = resolve_window("conv", y, (3, 3), 1, 1, 1, 1)
        y = native.conv([y], weights["kernel"], weights["bias"], outputs=growth, window=window)
        return Deferred((*parts, y), channels + growth)

    def _transition(self, call: Call) -> Any:
        """Means are taken before the convolution, which they commute with, not behind it."""
        parts, channels = _parts(call.args[0])
        path = f"{call.path}/reduce"
        norm = _norm(call.module)
        return self._pointwise(path, parts, channels // COMPRESSION, norm=norm, cell=2)

    def _batch_norm(self, call: Call) -> Any:
        x = call.args[0]
        return call.run(x=jnp.concatenate(x.parts, -1)) if isinstance(x, Deferred) else call.run()

    def _pointwise(
        self,
        path: str,
        parts: tuple[jax.Array, ...],
        outputs: int,
        act: str = "identity",
        **options: Any,
    ) -> jax.Array:
        """A 1x1 convolution of arrays side by side."""
        weights = self._packed[path]
        _, h, w, _ = parts[0].shape
        channels = sum(part.shape[3] for part in parts)
        window = Window((h, w), channels, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return native.conv(
            parts,
            weights["kernel"],
            weights["bias"],
            outputs=outputs,
            window=window,
            act=act,
            **options,
        )


def _parts(x: Any) -> tuple[tuple[jax.Array, ...], int]:
    """The arrays that x is made of, and their channels."""
    return (x.parts, x.channels) if isinstance(x, Deferred) else ((x,), x.shape[-1])


def _norm(module: Any) -> tuple[jax.Array, jax.Array]:
    """The scale and offset of a module's folded norm "preact"."""
    norm = module.variables["params"]["preact"]
    return norm["scale"], norm["bias"]
