"""Xception, as timm names the layers of its `legacy_xception`."""

TIMM = (
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
