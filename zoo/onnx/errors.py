"""What can be wrong with an ONNX model."""

from zoo_pretrained.printable import OneLineError


class OnnxError(OneLineError, ValueError):
    """A file is no ONNX model, a model contradicts itself, or inputs do not fit it."""


class UnsupportedError(OnnxError):
    """A model has operators, or uses of them, that are not there."""
