"""Models of others, imported from ONNX."""

from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.graph import TensorInfo
from zoo.onnx.model import OnnxModel, from_onnx

__all__ = ["OnnxError", "OnnxModel", "TensorInfo", "UnsupportedError", "from_onnx"]
