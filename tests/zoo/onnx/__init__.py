"""Tests of models that are imported from ONNX."""
