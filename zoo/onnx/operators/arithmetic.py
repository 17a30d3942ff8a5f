"""Numbers one by one: arithmetic, comparisons, logic, and changes of type."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.registry import Call, Value, cast, numeric, operator

# Functions that NumPy and jax.numpy have, by the operator's name.
UNARY = {
    "Abs": "abs",
    "Acos": "arccos",
    "Acosh": "arccosh",
    "Asin": "arcsin",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Atanh": "arctanh",
    "BitwiseNot": "bitwise_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "isnan",
    "Log": "log",
    "Neg": "negative",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}
BINARY = {
    "Add": "add",
    "And": "logical_and",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Mul": "multiply",
    "Or": "logical_or",
    "Sub": "subtract",
    "Xor": "logical_xor",
}
VARIADIC = {"Max": "maximum", "Min": "minimum", "Sum": "add"}
# Before this version an operand was broadcast along an axis that an attribute names.
BROADCASTS_LIKE_NUMPY = 7


def _register(table: dict[str, str], make: Callable[[str], Callable[..., Value]]) -> None:
    for op, name in table.items():
        operator(op)(make(name))


def _make_unary(name: str) -> Callable[..., Value]:
    return lambda call, x: getattr(numeric(x), name)(x)


def _make_binary(name: str) -> Callable[..., Value]:
    def run(call: Call, a: Value, b: Value) -> Value:
        return getattr(numeric(a, b), name)(a, align(call, a, b))

    return run


def _make_variadic(name: str) -> Callable[..., Value]:
    def run(call: Call, *values: Value) -> Value:
        return functools.reduce(getattr(numeric(*values), name), values)

    return run


_register(UNARY, _make_unary)
_register(BINARY, _make_binary)
_register(VARIADIC, _make_variadic)


def align(call: Call, a: Value, b: Value) -> Value:
    """The second operand with axes of 1 behind it, as old versions broadcast it."""
    if call.version >= BROADCASTS_LIKE_NUMPY or not call.get("broadcast", 0):
        return b
    axis = call.get("axis", a.ndim - b.ndim) % max(1, a.ndim)
    return b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim))


@operator("Div")
def divide(call: Call, a: Value, b: Value) -> Value:
    """A / b; of integers towards 0."""
    b = align(call, a, b)
    m = numeric(a, b)
    if not m.issubdtype(a.dtype, m.integer):
        return m.divide(a, b)
    if m.issubdtype(a.dtype, m.unsignedinteger):
        return m.floor_divide(a, b)
    return (m.abs(a) // m.abs(b) * m.sign(a) * m.sign(b)).astype(a.dtype)


@operator("Mod")
def remainder(call: Call, a: Value, b: Value) -> Value:
    """The remainder with the sign of b, or with `fmod` that of a."""
    m = numeric(a, b)
    return m.fmod(a, b) if call.get("fmod", 0) else m.mod(a, b)


@operator("Pow")
def power(call: Call, a: Value, b: Value) -> Value:
    """A ** b, of a's type."""
    m = numeric(a, b)
    return m.power(a, align(call, a, b)).astype(a.dtype)


@operator("Mean")
def mean(call: Call, *values: Value) -> Value:
    """The mean of all inputs."""
    return functools.reduce(numeric(*values).add, values) / np.asarray(len(values), values[0].dtype)


@operator("BitShift")
def shift_bits(call: Call, x: Value, y: Value) -> Value:
    """The bits of x, moved by y."""
    m = numeric(x, y)
    return m.left_shift(x, y) if call.text("direction", "") == "LEFT" else m.right_shift(x, y)


@operator("IsInf")
def is_infinite(call: Call, x: Value) -> Value:
    """Whether numbers are infinite; attributes leave out a sign."""
    m = numeric(x)
    low = call.get("detect_negative", 1) and m.isneginf(m.asarray(x, m.float32))
    high = call.get("detect_positive", 1) and m.isposinf(m.asarray(x, m.float32))
    return m.broadcast_to(m.logical_or(low, high), x.shape)


@operator("Clip")
def clip_by_attributes(call: Call, x: Value) -> Value:
    """Numbers between limits."""
    return clip(call, x, call.get("min"), call.get("max"))


@operator("Clip", since=11)
def clip(call: Call, x: Value, low: Value = None, high: Value = None) -> Value:
    """Numbers between limits, which may be missing."""
    m = numeric(x, *(each for each in (low, high) if isinstance(each, np.ndarray | jax.Array)))
    if low is not None:
        x = m.maximum(x, m.asarray(low, x.dtype))
    return x if high is None else m.minimum(x, m.asarray(high, x.dtype))


@operator("Where")
def where(call: Call, condition: Value, x: Value, y: Value) -> Value:
    """X where the condition holds, y elsewhere."""
    return numeric(condition, x, y).where(condition, x, y)


@operator("Erf")
def erf(call: Call, x: Value) -> Value:
    """The error function."""
    return jax.lax.erf(jnp.asarray(x))


@operator("Identity")
def identity(call: Call, x: Value) -> Value:
    """What it is given."""
    return x


# --- types

# Numbers of types in ONNX: of 8 bits with a range that values are limited to; those of them that
# have no −0; and of 4 or 2 bits.
_FLOAT8 = {17, 18, 19, 20}
_ONE_ZERO = {18, 20}
_FEW_BITS = {21, 22, 25, 26}


@operator("Cast")
def change_type(call: Call, x: Value) -> Value:
    """Elements in another type."""
    to = call.get("to")
    if isinstance(to, bytes):  # before version 6
        import onnx

        to = onnx.TensorProto.DataType.Value(to.decode())
    return _convert(x, to, call.get("saturate", 1))


@operator("CastLike")
def change_type_like(call: Call, x: Value, like: Value) -> Value:
    """Elements in the type of another input."""
    import onnx

    to = onnx.helper.np_dtype_to_tensor_dtype(like.dtype)
    return _convert(x, to, call.get("saturate", 1))


@operator("BitCast")
def reinterpret(call: Call, x: Value) -> Value:
    """The same bits as elements of another type of that size."""
    dtype = find_dtype(call.get("to"))
    if isinstance(x, np.ndarray):
        return x.view(dtype)
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(x, jax.dtypes.canonicalize_dtype(dtype))


def find_dtype(number: int) -> np.dtype:
    """The type that ONNX gives a number."""
    import onnx

    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))


def _convert(x: Value, to: int, saturate: int) -> Value:
    dtype = find_dtype(to)
    if dtype.kind == "O" or x.dtype.kind == "O":
        return _convert_strings(x, dtype)
    if to in _FLOAT8 and saturate:
        m, limit = numeric(x), jnp.finfo(dtype).max
        wide = m.asarray(x, m.float32)
        x = m.where(m.isnan(wide), wide, m.clip(wide, -float(limit), float(limit)))
    if to in _ONE_ZERO:
        # Its −0 would be NaN, and so would what is rounded to it.
        half = float(jnp.finfo(dtype).smallest_subnormal) / 2
        m = numeric(x)
        x = m.where(m.abs(m.asarray(x, m.float32)) <= half, 0, x)
    if to in _FEW_BITS:
        # The last bits of the integer, which for a signed type are one from −2^(bits − 1) on.
        limits = jnp.iinfo(dtype)
        count = int(limits.max) - int(limits.min) + 1
        low = np.int32(limits.min)
        x = (cast(x, np.int32) - low) % np.int32(count) + low
    return cast(x, dtype)


def _convert_strings(x: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.kind != "O":
        texts = [e.decode() if isinstance(e, bytes) else str(e) for e in np.asarray(x).flat]
        return np.array([float(text) for text in texts]).reshape(x.shape).astype(dtype)
    if x.dtype.kind == "O":
        return np.asarray(x)
    shown = [f"{value:.9g}" if x.dtype.kind == "f" else str(value) for value in np.asarray(x).flat]
    return np.array(shown, object).reshape(x.shape)
