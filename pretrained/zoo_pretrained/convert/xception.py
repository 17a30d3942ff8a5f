"""Xception, as its sources name the layers."""

import itertools
from collections.abc import Iterator

from zoo_pretrained.convert.frameworks import KERAS
from zoo_pretrained.convert.source import MINUS_ONE_TO_ONE, TENSORFLOW, Source

# Of timm's `legacy_xception`.
_TIMM = (
    (r"(?:conv|bn)([12])", r"stem/conv\1/"),
    (r"block(?P<block>\d+)\.skip(?:bn)?", "#/shortcut/"),
    # The first block does not begin with a ReLU, so its layers' numbers are one less.
    (r"block(?P<block>1)\.rep\.0\.conv1", "#/separable1/depthwise"),
    (r"block(?P<block>1)\.rep\.(?:0\.pointwise|1)", "#/separable1/pointwise/"),
    (r"block(?P<block>1)\.rep\.3\.conv1", "#/separable2/depthwise"),
    (r"block(?P<block>1)\.rep\.(?:3\.pointwise|4)", "#/separable2/pointwise/"),
    (r"block(?P<block>\d+)\.rep\.1\.conv1", "#/separable1/depthwise"),
    (r"block(?P<block>\d+)\.rep\.(?:1\.pointwise|2)", "#/separable1/pointwise/"),
    (r"block(?P<block>\d+)\.rep\.4\.conv1", "#/separable2/depthwise"),
    (r"block(?P<block>\d+)\.rep\.(?:4\.pointwise|5)", "#/separable2/pointwise/"),
    (r"block(?P<block>\d+)\.rep\.7\.conv1", "#/separable3/depthwise"),
    (r"block(?P<block>\d+)\.rep\.(?:7\.pointwise|8)", "#/separable3/pointwise/"),
    (r"conv3\.conv1", "separable1/depthwise"),
    (r"conv3\.pointwise|bn3", "separable1/pointwise/"),
    (r"conv4\.conv1", "separable2/depthwise"),
    (r"conv4\.pointwise|bn4", "separable2/pointwise/"),
    (r"fc", "head"),
)
# Shortcuts have only the numbers that Keras gives to unnamed layers.
_KERAS_NAMED = (
    (r"block1_conv(\d)(?:_bn)?", r"stem/conv\1/"),
    (r"block14_sepconv(\d)/depthwise", r"separable\1/depthwise"),
    (r"block14_sepconv(\d)(?:/pointwise|_bn)", r"separable\1/pointwise/"),
    (r"block(?P<block>\d+)_sepconv(\d)/depthwise", r"#/separable\2/depthwise"),
    (r"block(?P<block>\d+)_sepconv(\d)(?:/pointwise|_bn)", r"#/separable\2/pointwise/"),
    (r"(?:conv2d|batch_normalization)_?(?P<block>\d*)", "*/shortcut/"),
    (r"predictions", "head"),
)


def _keras_numbered() -> Iterator[tuple[str, str]]:
    """Rules for layers with numbers alone, as in the file that Keras offers, written by Keras 1."""
    paths = [f"stage{n}/block1/separable{i}" for n in (1, 2, 3) for i in (1, 2)]
    paths += [f"stage3/block{n}/separable{i}" for n in range(2, 10) for i in (1, 2, 3)]
    paths += ["stage4/block1/separable1", "stage4/block1/separable2", "separable1", "separable2"]
    shortcuts = {f"stage{n}/block1/separable1": f"stage{n}/block1/shortcut" for n in (1, 2, 3, 4)}
    convs, norms = itertools.count(1), itertools.count(1)
    for path in ("stem/conv1", "stem/conv2"):
        yield f"convolution2d_{next(convs)}|batchnormalization_{next(norms)}", f"{path}/"
    for number, path in enumerate(paths, start=1):
        if path in shortcuts:  # which come before their block's own
            names = f"convolution2d_{next(convs)}|batchnormalization_{next(norms)}"
            yield names, f"{shortcuts[path]}/"
        yield f"separableconvolution2d_{number}/depthwise", f"{path}/depthwise"
        names = f"separableconvolution2d_{number}/pointwise|batchnormalization_{next(norms)}"
        yield names, f"{path}/pointwise/"
    yield r"dense_\d", "head"


SOURCES = {
    "timm": Source(_TIMM, normalization=MINUS_ONE_TO_ONE),
    "keras": Source(
        (*_KERAS_NAMED, *_keras_numbered()),
        KERAS,
        arguments=TENSORFLOW,
        normalization=MINUS_ONE_TO_ONE,
    ),
}
