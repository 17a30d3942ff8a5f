"""Every test of operators that the ONNX standard brings with it."""

import functools
import re
import string
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from zoo.onnx import UnsupportedError, from_onnx

pytestmark = pytest.mark.peer

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
# Operators that are not there, of which no network for images is made.
MISSING = {
    "Attention": "language models",
    "LinearAttention": "language models",
    "CausalConvWithState": "language models",
    "FlexAttention": "language models",
    "RotaryEmbedding": "language models",
    "TensorScatter": "language models",
    "RNN|GRU|LSTM": "recurrent networks",
    "String.*|RegexFullMatch|TfIdfVectorizer|LabelEncoder": "texts",
    "DFT|STFT|MelWeightMatrix": "sound",
    "ImageDecoder": "files of images",
    "Bernoulli|Random.*": "random numbers",
    "TreeEnsemble|ArrayFeatureExtractor|Binarizer": "trees and tables",
    "Adagrad|Adam|Momentum|Gradient": "training",
    "Scan": "its version 8, with an axis for batches",
}
FAILING = {
    r"test_attention_.*bf16.*_expanded": "rounds to bfloat16 at other places",
    r"test_bitcast_(float64_to_int64|int64_to_float64)": "64 bits are 32 in jax by default",
    r"test_operator_add(_broadcast|_size1_(singleton|right)_broadcast|constant)": (
        "the inputs are memory that was never set, beyond float32"
    ),
    r"test_cast_e8m0_FLOAT.*_to_FLOAT8E8M0": "XLA takes the smallest number for 0",
    r"test_training_dropout(_default)?(_mask)?": "a mask of random numbers, those of NumPy",
    r"test_if_opt": "a condition that is not known, of values that may be missing",
}


@functools.cache
def load_tests():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the expected outputs of casts overflow on purpose
        return {test.name: test for kind in KINDS for test in load_model_tests(kind=kind)}


def read(file, type_):
    """The value in a file of the tests."""
    kinds = {
        "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
        "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
        "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
    }
    make, convert = kinds[type_.WhichOneof("value")]
    proto = make()
    proto.ParseFromString(file.read_bytes())
    return convert(proto)


def list_data(test):
    """Pairs of inputs and outputs."""
    if test.data_sets is not None:
        yield from test.data_sets
        return
    graph = onnx.load(Path(test.model_dir, "model.onnx")).graph
    for folder in sorted(Path(test.model_dir).glob("test_data_set_*")):
        yield tuple(
            [
                read(folder / f"{side}_{i}.pb", info.type)
                for i, info in enumerate(infos)
                if (folder / f"{side}_{i}.pb").exists()
            ]
            for side, infos in (("input", graph.input), ("output", graph.output))
        )


def to_numpy(value):
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [to_numpy(each) for each in value]
    return value if value is None else np.asarray(value)


def assert_close(got, want, test):
    if isinstance(want, list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_close(one, other, test)
    elif want is None:
        assert got is None
    else:
        got = np.asarray(got)
        assert got.shape == want.shape
        if want.dtype.kind not in "fiub":  # of 8 bits and less
            got, want = got.astype(np.float32), want.astype(np.float32)
        np.testing.assert_allclose(got.astype(want.dtype), want, rtol=test.rtol, atol=test.atol)


def find_reason(table, name):
    return next((why for pattern, why in table.items() if re.fullmatch(pattern, name)), None)


def run(test):
    """The operators that a test needs and that are not there; AssertionError if it fails."""
    try:
        model = from_onnx(test.model or Path(test.model_dir, "model.onnx"))
    except UnsupportedError as error:
        return re.findall(r"([A-Za-z]+) \(version", str(error))
    for inputs, outputs in list_data(test):
        got = model(*to_numpy(list(inputs)))
        assert_close(list(got) if isinstance(got, tuple) else [got], to_numpy(list(outputs)), test)
    return []


# In groups, as loading the tests takes seconds, which other runs of pytest are not to wait for.
@pytest.mark.parametrize("letter", string.ascii_lowercase)
def test_operators_that_begin_with(letter):
    problems = {}
    for name, test in load_tests().items():
        if not name.removeprefix("test_").startswith(letter):
            continue
        reason = find_reason(FAILING, name)
        try:
            missing = run(test)
        except (AssertionError, ValueError, TypeError, RuntimeWarning) as error:
            if reason is None:
                problems[name] = " ".join(str(error).split())[:300]
            continue
        if unlisted := [op for op in missing if find_reason(MISSING, op) is None]:
            problems[name] = f"not there: {', '.join(unlisted)}"
        elif not missing and reason is not None:
            problems[name] = f"it passes, and is listed as failing: {reason}"
    assert not problems, "\n".join(f"{name}: {problem}" for name, problem in problems.items())
