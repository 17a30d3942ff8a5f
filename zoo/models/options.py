"""Checks of the constructors' arguments, and the signatures that `help` and editors show."""

import dataclasses
import inspect
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from zoo.models.suggest import suggest

# Of weights, and of what layers compute in.
DTYPES = ("bfloat16", "float16", "float32", "float64")
# Fields of a model that are not for users to set.
INTERNAL = ("fused", "constructor", "parent")


# Checkpoints of anybody name arguments: larger numbers would take all memory.
MAX_COUNT = 1 << 20


def _is_count(value: Any) -> bool:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and 1 <= int(value) <= MAX_COUNT


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_multiplier(value: Any) -> bool:
    # A checkpoint of anybody may name it: a depth of a million would take forever to build.
    return _is_real(value) and 0 < value <= 16


def _is_rate(value: Any) -> bool:
    return _is_real(value) and 0 <= value < 1


def _is_floating(dtype: Any) -> bool:
    try:
        return dtype is not None and jnp.dtype(dtype).name in DTYPES
    except (TypeError, ValueError):
        return False


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_COUNT = _is_count, f"an integer of at least 1, and at most {MAX_COUNT}"
_FLAG = _is_flag, "True or False"
_MULTIPLIER = _is_multiplier, "a number above 0 and at most 16"
_RATE = _is_rate, "a number of at least 0 and below 1"
_DTYPE = _is_floating, f"a floating-point dtype or its name: {', '.join(DTYPES)}"
# Fields of that name in any family: what they must be.
EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "num_classes": _COUNT,
    "hidden_features": _COUNT,
    "dtype": _DTYPE,
    "param_dtype": _DTYPE,
    "norm_eps": (lambda value: _is_real(value) and 0 <= value < 1e30, "a number of at least 0"),
    "norm_momentum": (lambda value: _is_real(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "padding": (lambda value: value in ("symmetric", "SAME"), '"symmetric" or "SAME"'),
    "remat": _FLAG,
    "recompute": _FLAG,
    "auxiliary": _FLAG,
    "stride_in_1x1": _FLAG,
    "ceil_pool": _FLAG,
    "reduced_tail": _FLAG,
    "output_stride": (lambda value: value in (8, 16, 32), "8, 16 or 32"),
    "width": _MULTIPLIER,
    "depth": _MULTIPLIER,
    "dropout_rate": _RATE,
    "auxiliary_dropout_rate": _RATE,
    "drop_path_rate": _RATE,
}


def check_values(title: str, values: Mapping[str, Any]) -> None:
    """Raises ValueError for the first argument whose value is not as EXPECTED."""
    for name, value in values.items():
        is_valid, expected = EXPECTED.get(name, (None, ""))
        if is_valid and not is_valid(value):
            raise ValueError(f"{title}: {name} must be {expected}, got {value!r}")


def check_names(
    title: str, known: Collection[str], args: Sequence[Any], names: Collection[str]
) -> None:
    """Raises TypeError for positional arguments, and for names that are not known."""
    if args:
        raise TypeError(
            f"{title} takes arguments by name only, such as num_classes=10, got {args[0]!r}"
        )
    for name in names:
        if name not in known:
            shown = [option for option in known if option not in INTERNAL]
            hint = suggest(name, shown, cutoff=0.7) or f"its arguments are {', '.join(shown)}"
            raise TypeError(f"{title} takes no argument {name!r}; {hint}")


def make_signature(
    cls: type, omit: Collection[str] = (), defaults: Any = None
) -> inspect.Signature:
    """The signature of a constructor of models.

    Args:
      cls: the model's class, whose fields are the arguments.
      omit: fields that are no arguments, besides the INTERNAL ones.
      defaults: a model whose values are the defaults; those of the class if not given.
    """
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default if defaults is None else getattr(defaults, field.name),
            annotation="DTypeLike" if field.type == DTypeLike else field.type,
        )
        for field in dataclasses.fields(cls)
        if field.name not in INTERNAL and field.name not in omit
    ]
    return inspect.Signature(parameters, return_annotation=cls)


def to_json(name: str, value: Any) -> Any:
    """An argument's value as JSON has it, such as a dtype's name."""
    if name in ("dtype", "param_dtype"):
        return jnp.dtype(value).name
    return value.item() if isinstance(value, np.generic) else value
