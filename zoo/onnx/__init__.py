"""Models of others imported from ONNX, and the zoo's exported to it."""

from zoo.onnx.classifier import OnnxClassifier
from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.export import OPSET, to_onnx
from zoo.onnx.graph import TensorInfo
from zoo.onnx.model import OnnxModel, from_onnx

__all__ = [
    "OPSET",
    "OnnxClassifier",
    "OnnxError",
    "OnnxModel",
    "TensorInfo",
    "UnsupportedError",
    "from_onnx",
    "to_onnx",
]
