"""What every model is, and the table of all of them."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models import initializers as initial
from zoo.models.layers import BatchNorm, Conv, ConvNorm, Dense, Dtype
from zoo_pretrained.checkpoint import flatten_variables


class Model(nn.Module):
    """A classifier: a frozen definition that holds no arrays.

    Args:
      num_classes: the number of logits.
      dtype: what the layers compute in; statistics and logits are float32 or better all the same.
      param_dtype: what the parameters are kept in.
      norm_eps, norm_momentum: batch normalisation's epsilon, and decay of running statistics.
      padding: of the convolutions. "symmetric" as in PyTorch's models; "SAME" as in TensorFlow's,
        which with a stride pads an even size on the far side only.
      remat: keeps less for the backward pass and computes the blocks' inner values again there.
      fused: the norms are folded into the convolutions; set by `zoo.fuse`.
      constructor: the name of the constructor that made it; set by the constructor.
    """

    # The outermost modules behind the features, which a file of a backbone may lack.
    classifier: ClassVar[tuple[str, ...]] = ("head",)
    # Further modules that `zoo.backbone` leaves out, and what it changes in the definition.
    backbone_excludes: ClassVar[tuple[str, ...]] = ()
    backbone_options: ClassVar[Mapping[str, Any]] = {}

    num_classes: int = 1000
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    padding: str = "symmetric"
    remat: bool = False
    fused: bool = False
    constructor: str = ""

    @nn.nowrap
    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Fresh variables, as `flax.linen.Module.init` gives them, but quickly.

        Args:
          rngs: a random key, or {"params": key}.
          *args: images, or a `jax.ShapeDtypeStruct` of images, for only the shape counts; then as
            for `apply`.
          **kwargs: as for `apply`.

        Returns:
          {"params": …} and, for a model with batch norms, {"batch_stats": …}.
        """
        x, *rest = args if args else (kwargs.pop("x"),)
        plain = functools.partial(nn.Module.init, self)
        with initial.noting() as noted:
            shapes = jax.eval_shape(lambda x: plain(jax.random.key(0), x, *rest, **kwargs), x)
        key = rngs.get("params") if isinstance(rngs, Mapping) else rngs
        known = noted.keys() >= {tuple(path.split("/")) for path, _ in flatten_variables(shapes)}
        if key is None or not known:  # no key for parameters, or a layer that is not the zoo's
            return dict(plain(rngs, x, *rest, **kwargs))
        variables: dict[str, Any] = initial.draw(key, shapes, noted)
        return variables

    @nn.nowrap
    def variable_shapes(self, channels: int = 3) -> Any:
        """Shapes and dtypes of the variables, for images of so many channels."""
        images = jax.ShapeDtypeStruct((1, self.min_size, self.min_size, channels), jnp.float32)
        return jax.eval_shape(self.init, jax.random.key(0), images)

    @property
    def min_size(self) -> int:
        """The smallest height and width that leave something for the classifier."""
        return 1

    @property
    def title(self) -> str:
        """What messages call this model."""
        return self.constructor or type(self).__name__

    @nn.nowrap
    def layers(self, layer: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Conv, Dense, BatchNorm or ConvNorm with what this model says of it filled in."""
        options = {"dtype": self.dtype, "param_dtype": self.param_dtype, **options}
        if layer in (Conv, ConvNorm):
            options = {"padding": self.padding, **options}
        if layer in (BatchNorm, ConvNorm):
            norm = {"eps": self.norm_eps, "momentum": self.norm_momentum, "fused": self.fused}
            options = {**norm, **options}
        return functools.partial(layer, **options)

    def logits(self, x: jax.Array, train: bool, dropout_rate: float = 0.0) -> jax.Array:
        """Feature maps [N, H, W, C], or features [N, C], → logits [N, num_classes], by "head"."""
        if x.ndim == 4:
            x = x.mean(axis=(1, 2))
        x = nn.Dropout(dropout_rate, deterministic=not train, name="dropout")(x)
        return wide(self.layers(Dense)(self.num_classes, name="head")(x))

    @nn.nowrap
    def check(self, x: jax.Array, train: bool) -> None:
        """Raises ValueError or TypeError for what is no batch of images for this model."""
        if jnp.ndim(x) != 4:
            raise ValueError(f"{self.title} takes images [N, H, W, C], got shape {jnp.shape(x)}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{self.title} takes normalised floating-point images, got {x.dtype}; "
                f"`preprocess` of a trained model makes them"
            )
        least = self.min_size
        if 0 in x.shape or min(x.shape[1:3]) < least:
            raise ValueError(
                f"{self.title} takes one image or more of at least {least}x{least}, "
                f"got shape {x.shape}"
            )
        if self.num_classes < 1:
            raise ValueError(
                f"{self.title}: num_classes must be at least 1, got {self.num_classes!r}"
            )
        if self.padding not in ("symmetric", "SAME"):
            raise ValueError(
                f'{self.title}: padding must be "symmetric" or "SAME", got {self.padding!r}'
            )
        if train and self.fused:
            raise ValueError(f"{self.title}: a fused model has no batch norms left to train")


def wide(x: jax.Array) -> jax.Array:
    """Logits in float32, or better where they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Step(NamedTuple):
    """How a stage goes on: with a stride, or with dilation in its place.

    Args:
      stride: of the stage's strided layer.
      dilation: of that layer, and of what comes before it in its block.
      after: the dilation of the layers behind it.
    """

    stride: int
    dilation: int
    after: int

    def of(self, blocks: int) -> list["Step"]:
        """One for each block of the stage: the stride is the first one's."""
        return [self, *[Step(1, self.after, self.after)] * (blocks - 1)]


def steps(strides: Sequence[int], output_stride: int, stem: int = 2) -> list[Step]:
    """Spends strides until `output_stride` is reached, and turns the further ones into dilation.

    The same kernels then see what they saw, at more places (Chen et al. 2017, arXiv 1706.05587).

    Args:
      strides: of the stages.
      output_stride: 8, 16 or 32.
      stem: the stride before the first stage.

    Raises:
      ValueError: another output stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}")
    reached, dilation, made = stem, 1, []
    for stride in strides:
        before = dilation
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        made.append(Step(stride, before, dilation))
    return made


@dataclasses.dataclass(frozen=True)
class Entry:
    """One constructor of the zoo.

    Args:
      name: the constructor's name, which is the model's.
      family: the name of its file, such as "resnet".
      constructor: makes the model.
      input_size: the height and width in pixels that the model was designed for.
    """

    name: str
    family: str
    constructor: Callable[..., Model]
    input_size: int


Constructor = TypeVar("Constructor", bound=Callable[..., Model])


class UnknownModelError(ValueError):
    """No model has that name; the message lists the nearest."""


MODELS: dict[str, Entry] = {}


def register(input_size: int = 224) -> Callable[[Constructor], Constructor]:
    """Enters a constructor, a function or the model's class, into the table under its own name."""

    def enter(constructor: Constructor) -> Constructor:
        name = constructor.__name__
        named: Any = constructor
        if not isinstance(constructor, type):  # a class is named already

            @functools.wraps(constructor)
            def named(*args: Any, **options: Any) -> Model:
                return constructor(*args, constructor=name, **options)

        family = constructor.__module__.rpartition(".")[2]
        MODELS[name] = Entry(name, family, named, input_size)
        return named

    return enter


def find_model(model: str | Callable[..., Any]) -> Entry:
    """The entry of a constructor or of its name; UnknownModelError if there is none."""
    name = model if isinstance(model, str) else getattr(model, "__name__", repr(model))
    entry = MODELS.get(name)
    if entry is not None and (isinstance(model, str) or entry.constructor is model):
        return entry
    by_lower = {known.lower(): known for known in MODELS}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(by_lower[n] for n in near)}?" if near else "see list_models()"
    )
    raise UnknownModelError(f"no model is named {name!r}; {hint}")
