"""The passes of operators whose time is modelled, and how their kernels are tiled."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from benchmarks.operators.cases import GPU_CASES, Case
from zoo_kernels.core.pallas import tiles
from zoo_kernels.core.window import DEPTHWISE, Window, resolve_convolution
from zoo_kernels.depthwise_conv import stencil
from zoo_kernels.depthwise_conv.triton_forward import (
    ROW_COSTS,
    Tiling,
    choose_tiling,
)
from zoo_kernels.depthwise_conv.triton_weight_grad import choose_weight_grad_tiling


class CasePass(NamedTuple):
    """One pass of a case, with one more operand or none: a residual, or the bias of a convolution.

    The residual is not differentiated, and the bias is for the forward pass alone.
    """

    case: Case
    pass_name: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.case}, {self.pass_name}" + (f" with {self.extra}" if self.extra else "")

    @property
    def min_bytes(self) -> float:
        """The bytes that must move; a bias's are too few to count."""
        # Where y does not tell the derivative, the backward pass reads the residual again.
        rereads = self.pass_name != "forward" and self.case.act == "silu"
        residual_reads = (1 + rereads) * (self.extra == "residual")
        x_bytes = math.prod(self.case.shapes[0]) * jnp.dtype(self.case.dtype).itemsize
        return self.case.cost(self.pass_name)[0] + residual_reads * x_bytes

    def function(self) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
        """The pass, and the shapes and dtypes that it is called on."""
        avals = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in zip(self.case.shapes, self.case.dtypes, strict=True)
        ]
        if self.extra:
            shape = avals[0].shape if self.extra == "residual" else avals[0].shape[-1:]
            avals.append(jax.ShapeDtypeStruct(shape, self.case.dtype))

        def run(x: jax.Array, *others: Any) -> Any:
            *vectors, dy, extra = others if self.extra else (*others, None)
            op = functools.partial(_operator(self), **{self.extra: extra} if self.extra else {})
            if self.pass_name == "forward":
                return op(x, *vectors)
            if self.pass_name == "input gradient":
                return jax.vjp(lambda x: op(x, *vectors), x)[1](dy)
            if self.pass_name == "weight gradient":
                return jax.vjp(lambda w: op(x, w), *vectors)[1](dy)
            y, vjp = jax.vjp(op, x, *vectors)
            return y, vjp(dy)

        return run, avals


def _operator(case_pass: CasePass) -> Callable[..., Any]:
    """The operator as a function of x and the vectors or weights."""
    case = case_pass.case
    act = {"act": case.act} if case.op != "depthwise" or case_pass.extra else {}
    op = functools.partial(OPERATORS[case.op], implementation="triton", **act)
    if case.op == "batch_norm":
        return lambda *arrays: op(*arrays)[0]
    geometry = {"strides": case.strides, "padding": case.kernel // 2} if case.kernel else {}
    return functools.partial(op, **geometry)


OPERATORS: dict[str, Callable[..., Any]] = {
    "depthwise": kernels.depthwise_conv,
    "bias_act": kernels.bias_act,
    "batch_norm": kernels.batch_norm,
}
ODD_CHANNELS = Case("depthwise", "odd channels", 128, 56, 33, 33, 3)


def list_passes() -> Iterator[CasePass]:
    """Every pass that is modelled."""
    for float32_case in (*GPU_CASES, ODD_CHANNELS):
        for dtype in ("float32", "bfloat16"):
            case = float32_case._replace(dtype=dtype)
            for pass_name in case.passes:
                yield CasePass(case, pass_name)
                if case.op == "bias_act":
                    yield CasePass(case, pass_name, "residual")
                elif case.kernel and pass_name == "forward":
                    yield CasePass(case, pass_name, "bias")


class Access(NamedTuple):
    """How a kernel's loads lie in memory.

    Args:
      row_bytes: that lie side by side, of what the threads of a warp load at once.
      unique: the share of a program's loads of pixels that no other of its threads makes.
      walks: whether programs walk over their work in a loop, as the weight gradient's do.
    """

    row_bytes: int
    unique: float
    walks: bool


# Of kernels that pass once over rows, which are folded until they are as wide as this.
WHOLE_ROWS = Access(256, 1.0, False)


def describe_access(case_pass: CasePass) -> Access:
    """How the kernel of a pass loads."""
    case = case_pass.case
    if not case.kernel:
        return WHOLE_ROWS
    window, dtype = find_window(case), jnp.dtype(case.dtype)
    walks = case_pass.pass_name == "weight gradient"
    spatial: Tiling
    if walks:
        tiling = choose_weight_grad_tiling(window, dtype, case.out_channels, case.batch)
        spatial, tile = tiling.spatial, tiling.tile
    else:
        forward = case_pass.pass_name == "forward"
        make_axis = stencil.forward_axis if forward else stencil.input_grad_axis
        spatial = choose_tiling(make_axis, window, dtype)
        tile = tiles.choose_tile(case.channels, dtype, spatial.warps, ROW_COSTS)
    columns = spatial.columns
    run = min(tile.rows, columns.tiles)  # tiles of a program that lie side by side
    loaded = len(columns.uses)
    unique = ((run - 1) * columns.tile_stride + loaded) / (run * loaded)
    return Access(tile.channels * dtype.itemsize, min(1.0, unique), walks)


def find_window(case: Case) -> Window:
    """The window of a depthwise convolution's case."""
    found: list[Window] = []

    def resolve(x: jax.Array, w: jax.Array) -> jax.Array:
        x, _, window = resolve_convolution(
            "depthwise_conv", x, w, case.strides, case.kernel // 2, 1, DEPTHWISE
        )
        found.append(window)
        return x

    avals = [jax.ShapeDtypeStruct(shape, case.dtype) for shape in case.shapes[:2]]
    jax.eval_shape(resolve, *avals)
    return found[0]
