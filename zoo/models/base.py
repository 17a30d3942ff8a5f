"""What every model is, and the table of all of them."""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypedDict, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from zoo.models.initializers import initialize, record_initializers
from zoo.models.layers import Dense, LayerOptions, promote_to_float32
from zoo.models.options import INTERNAL, check_names, check_values, make_signature, to_json
from zoo.models.suggest import suggest
from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.spelling import choose


class ModelOptions(TypedDict, total=False):
    """Arguments that every constructor takes; see `Model`. Families add their own."""

    num_classes: int
    dtype: DTypeLike
    param_dtype: DTypeLike
    norm_eps: float
    norm_momentum: float
    padding: str
    remat: bool
    recompute: bool
    name: str | None


class Model(nn.Module, kw_only=True):
    """A classifier: a frozen definition that holds no arrays.

    A family is a subclass. It declares in class attributes what other parts of the zoo must know.

    Attributes:
      architecture: the arguments that tell a family's members apart. Constructors fix them, and
        `help` does not show them.
      classifier: the outermost modules behind the features. A backbone's checkpoint may lack them,
        and `zoo.adapt` replaces the last.
      input_conv: the path of the first convolution, whose kernel has the images' channels.
      backbone_excludes: further outermost modules that `zoo.backbone` leaves out.
      backbone_options: arguments that `zoo.backbone` changes.
      is_detector: whether it finds objects, and is no classifier.
      is_imported: whether a file brings its architecture, so that it has no layers of the zoo.

    Args:
      num_classes: the number of logits.
      dtype: what the layers compute in, or its name; statistics and logits are float32 or better
        all the same.
      param_dtype: what the parameters are kept in.
      norm_eps, norm_momentum: batch normalisation's epsilon, and decay of running statistics.
      padding: of the convolutions. "symmetric" as in PyTorch's models; "SAME" as in TensorFlow's,
        which with a stride pads an even size on the far side only.
      remat: keeps only the blocks' inputs for the backward pass and computes their inner values
        again there, convolutions included.
      recompute: in training on a CPU, recomputes activations inside blocks for the gradients in
        place of keeping them, which costs one pass over memory each.
      fused: the norms are folded into the convolutions; set by `zoo.fuse`.
      constructor: the name of the constructor that made it; set by the constructor.
      name: of the module, where the model is a part of another.

    Raises:
      TypeError: an argument that the model does not take; the message lists the nearest.
      ValueError: a value that an argument does not take.
    """

    architecture: ClassVar[tuple[str, ...]] = ()
    classifier: ClassVar[tuple[str, ...]] = ("head",)
    input_conv: ClassVar[str] = "stem/conv"
    backbone_excludes: ClassVar[tuple[str, ...]] = ()
    backbone_options: ClassVar[Mapping[str, Any]] = {}
    is_detector: ClassVar[bool] = False
    is_imported: ClassVar[bool] = False

    num_classes: int = 1000
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    padding: str = "symmetric"
    remat: bool = False
    recompute: bool = True
    fused: bool = False
    constructor: str = ""

    def __init_subclass__(cls, kw_only: bool = True, **kwargs: Any) -> None:
        """Makes the class a dataclass, as flax does, and its signature."""
        super().__init_subclass__(kw_only=kw_only, **kwargs)
        cls.__signature__ = make_signature(cls)  # type: ignore[attr-defined]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Checks the arguments' names."""
        names = [field.name for field in dataclasses.fields(cls)]
        check_names(options.get("constructor") or cls.__name__, names, args, options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks the arguments' values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        check_values(self.title, values)
        super().__post_init__()

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
        flax_init = functools.partial(nn.Module.init, self)
        with record_initializers() as initializers:
            shapes = jax.eval_shape(lambda x: flax_init(jax.random.key(0), x, *rest, **kwargs), x)
        key = rngs.get("params") if isinstance(rngs, Mapping) else rngs
        paths = {tuple(path.split("/")) for path, _ in flatten_variables(shapes)}
        if key is None or not initializers.keys() >= paths:  # or a layer that is not the zoo's
            return dict(flax_init(rngs, x, *rest, **kwargs))
        variables: dict[str, Any] = initialize(key, shapes, initializers)
        return variables

    @nn.nowrap
    def variable_shapes(self, channels: int = 3) -> Any:
        """Shapes and dtypes of the variables, for images of that number of channels."""
        images = jax.ShapeDtypeStruct((1, self.min_size, self.min_size, channels), jnp.float32)
        # They do not depend on the compute dtype, and float64 would warn where jax has none.
        model = self.clone(dtype=jnp.float32)
        return jax.eval_shape(model.init, jax.random.key(0), images)

    @nn.nowrap
    def count_channels(self, variables: Mapping[str, Any]) -> int:
        """How many channels the images have that these variables are for; 0 if there are none."""
        node: Any = variables["params"]
        for name in (*self.input_conv.split("/"), "kernel"):
            node = node.get(name, {}) if isinstance(node, Mapping) else {}
        return int(node.shape[2]) if len(getattr(node, "shape", ())) == 4 else 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which its constructor makes it again, as JSON values.

        Raises:
          ValueError: no registered constructor makes it.
        """
        if self.title not in (*MODELS, *DETECTORS, *_IMPORTED):
            raise ValueError(
                f"a {self.title} that no constructor of the zoo made has no arguments to name it by"
            )
        constructor = find_model(self.title).constructor
        taken = (*inspect.signature(constructor).parameters, "fused")
        given = {n: v for n, v in self._differing(constructor()).items() if n in taken}
        # What the constructor fixes may depend on these.
        for name, value in self._differing(constructor(**given)).items():
            raise ValueError(
                f"this {self.title} has {name}={value!r}, which its constructor does not take"
            )
        arguments = {name: to_json(name, value) for name, value in given.items()}
        return {"num_classes": int(self.num_classes), **arguments}

    @nn.nowrap
    def _differing(self, other: "Model") -> dict[str, Any]:
        """The arguments that differ from those of another model of the class."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("name", "parent")
            and getattr(self, field.name) != getattr(other, field.name)
        }

    @property
    def min_size(self) -> int:
        """The smallest height and width that leave something for the classifier."""
        return 1

    @property
    def usual_size(self) -> int:
        """The height and width in pixels that it was designed for."""
        return MODELS[self.title].input_size if self.title in MODELS else 224

    @property
    def title(self) -> str:
        """What messages call this model."""
        return self.constructor or type(self).__name__

    @property
    def layer_options(self) -> LayerOptions:
        """What the layers of this model have in common."""
        names = [field.name for field in dataclasses.fields(LayerOptions)]
        return LayerOptions(**{name: getattr(self, name) for name in names})

    def logits(self, x: jax.Array, train: bool, dropout_rate: float = 0.0) -> jax.Array:
        """Feature maps [N, H, W, C], or features [N, C], → logits [N, num_classes], by "head"."""
        if x.ndim == 4:
            x = x.mean(axis=(1, 2))
        x = nn.Dropout(dropout_rate, deterministic=not train, name="dropout")(x)
        head = Dense(self.num_classes, options=self.layer_options, name="head")
        return promote_to_float32(head(x))

    @nn.nowrap
    def check_images(self, x: jax.Array, train: bool) -> None:
        """Raises ValueError or TypeError for what is no batch of images for this model."""
        if jnp.ndim(x) != 4:
            raise ValueError(f"{self.title} takes images [N, H, W, C], got shape {jnp.shape(x)}")
        if not all(isinstance(n, int) for n in x.shape[1:]):
            raise ValueError(
                f"{self.title} takes images of a size that is known, got shape {x.shape}; "
                f"only the batch may be symbolic"
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{self.title} takes normalised floating-point images, got {x.dtype}; "
                f"`preprocess` of a trained model makes them"
            )
        size = self.min_size
        if 0 in x.shape or min(x.shape[1:3]) < size:
            raise ValueError(
                f"{self.title} takes one image or more of at least {size}x{size}, "
                f"got shape {x.shape}"
            )
        if train and self.fused:
            raise ValueError(f"{self.title}: a fused model has no batch norms left to train")


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A row of the table of models.

    Args:
      name: the constructor's name, which is the model's.
      family: the name of its file, such as "resnet".
      constructor: makes the model; a function, or the model's class.
      input_size: the height and width in pixels that the model was designed for.
    """

    name: str
    family: str
    constructor: Callable[..., Model]
    input_size: int


Constructor = TypeVar("Constructor", bound=Callable[..., Model])


class UnknownModelError(ValueError):
    """No model has that name; the message lists the nearest."""


MODELS: dict[str, ModelEntry] = {}
DETECTORS: dict[str, ModelEntry] = {}  # which `zoo.detection.models` enters
# Models whose architecture a file brings: their modules, which make them known when they are
# imported. They are found by their names, and are in no list.
_IMPORTED = {"OnnxClassifier": "zoo.onnx.classifier"}


def register(
    input_size: int = 224, table: dict[str, ModelEntry] | None = None
) -> Callable[[Constructor], Constructor]:
    """Enters a constructor, a function or the model's class, into a table under its own name.

    The constructor then shows all arguments with their defaults, and refuses others.

    Args:
      input_size: the height and width in pixels that the model was designed for.
      table: by default that of the classifiers.
    """

    def enter(constructor: Constructor) -> Constructor:
        name = constructor.__name__
        registered: Any = constructor
        if isinstance(constructor, type):
            registered.__signature__ = make_signature(constructor, registered.architecture)
        else:
            registered = _named(constructor)
        family = constructor.__module__.rpartition(".")[2]
        (MODELS if table is None else table)[name] = ModelEntry(
            name, family, registered, input_size
        )
        return registered

    return enter


def _named(constructor: Callable[..., Model]) -> Any:
    """The function, which tells its models their name; with checks and a signature."""
    name = constructor.__name__
    model = constructor(constructor=name)
    signature = make_signature(type(model), model.architecture, defaults=model)
    known = (*signature.parameters, *INTERNAL)

    @functools.wraps(constructor)
    def construct(*args: Any, **options: Any) -> Model:
        check_names(name, known, args, options)
        return constructor(**{"constructor": name, **options})

    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


def create(model: str | Callable[..., Model], **arguments: Any) -> Model:
    """A model's definition by its name in any case, as `create("resnet50", num_classes=10)`.

    Args:
      model: a constructor's name, or a constructor such as `zoo.ResNet50`.
      **arguments: of the constructor.

    Raises:
      UnknownModelError: no model has that name; the message lists the nearest.
      TypeError: an argument that the model does not take; the message lists the nearest.
      ValueError: a value that an argument does not take.
    """
    return find_model(model).constructor(**arguments)


def load_detectors() -> dict[str, ModelEntry]:
    """The table of the detectors, whose modules are imported."""
    importlib.import_module("zoo.detection.models")
    return DETECTORS


def find_model(model: str | Callable[..., Any]) -> ModelEntry:
    """The entry of a constructor or of its name; UnknownModelError if there is none."""
    if not isinstance(model, str) and not hasattr(model, "__name__"):
        raise UnknownModelError(
            f"model must be a constructor such as zoo.ResNet50, or its name, "
            f"got {type(model).__name__}"
        )
    name = model if isinstance(model, str) else model.__name__
    entry = MODELS.get(name) or load_detectors().get(name)
    if entry is None and isinstance(model, str):  # names in any case
        known = {title.lower(): title for title in (*MODELS, *DETECTORS, *_IMPORTED)}
        name = known.get(name.lower(), name)
        entry = MODELS.get(name) or DETECTORS.get(name)
    if entry is None and name in _IMPORTED:
        entry = importlib.import_module(_IMPORTED[name]).ENTRY
    if entry is not None and (isinstance(model, str) or entry.constructor is model):
        return entry
    hint = suggest(name, (*MODELS, *DETECTORS)) or choose(
        python="zoo.list_models() lists them", shell="zoo list lists them"
    )
    raise UnknownModelError(f"no model is named {name!r}; {hint}")
