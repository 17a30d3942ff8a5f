"""Products of matrices."""

import jax
import jax.numpy as jnp

from zoo.onnx.operators.arithmetic import align
from zoo.onnx.registry import Call, Value, operator


@operator("MatMul")
def multiply_matrices(call: Call, a: Value, b: Value) -> Value:
    """The products of the matrices in the last two axes."""
    return jnp.matmul(a, b)


@operator("Gemm")
def gemm(call: Call, a: Value, b: Value, c: Value = None) -> Value:
    """Alpha · a · b + beta · c, where a and b may be transposed."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    product = jnp.matmul(a.T if call.get("transA", 0) else a, b.T if call.get("transB", 0) else b)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if alpha != 1:
        product = (alpha * product).astype(a.dtype)
    if c is None:
        return product
    c = align(call, product, jnp.asarray(c))
    return product + (c if beta == 1 else (beta * c).astype(a.dtype))


@operator("Einsum")
def einsum(call: Call, *values: Value) -> Value:
    """Sums of products by Einstein's convention."""
    return jnp.einsum(call.text("equation", "").replace(" ", ""), *values)


@operator("Det")
def determinant(call: Call, x: Value) -> Value:
    """The determinants of the matrices in the last two axes."""
    return jnp.linalg.det(x)


@operator("MatMulInteger")
def multiply_integers(
    call: Call, a: Value, b: Value, a_zero: Value = None, b_zero: Value = None
) -> Value:
    """The products of matrices of small integers, in 32 bits."""
    a, b = jnp.asarray(a).astype(jnp.int32), jnp.asarray(b).astype(jnp.int32)
    if a_zero is not None:
        zero = jnp.asarray(a_zero).astype(jnp.int32)
        a = a - (zero[..., None] if zero.ndim == 1 and zero.size > 1 else zero)
    if b_zero is not None:
        b = b - jnp.asarray(b_zero).astype(jnp.int32)
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
