"""The compiler options for whole programs, by the names that users of the zoo import."""

from kernels import compiler_options, jit

__all__ = ["compiler_options", "jit"]
