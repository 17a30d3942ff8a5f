"""ResNet, ResNeXt and Wide ResNet, as their sources name the layers.

Flux's names are Metalhead.jl's, taken from its source code and not tried in Julia: a model is
`Chain(Chain(stem, stages...), Chain(pool, flatten, Dense))`, a block
`Parallel(connection, shortcut, Chain(...))`, and an activation counts as a layer of its own. What
holds the outermost Chain, such as "layers.", may come before its number.
"""

from zoo_pretrained.convert.frameworks import FLUX, KERAS
from zoo_pretrained.convert.source import CAFFE, Source

_TORCH = (
    (r"(?:conv|bn)1", "stem/"),
    (r"layer(?P<block>\d\.\d+)\.(?:conv|bn)(\d)", r"#/conv\2/"),
    (r"layer(?P<block>\d\.\d+)\.downsample\.[01]", "#/shortcut/"),
    (r"fc", "head"),
)
# The classifier has several names.
_KERAS = (
    (r"conv1_(?:conv|bn)", "stem/"),
    (r"conv(?P<block>\d_block\d+)_0_(?:conv|bn)", "#/shortcut/"),
    (r"conv(?P<block>\d_block\d+)_([123])_(?:conv|bn)", r"#/conv\2/"),
    (r"predictions|probs|fc1000", "head"),
)
_MODEL = r"(?:[^\d.][^.]*\.)*"
_BLOCK = _MODEL + r"1\.layers\.(?P<block>[2-5]\.layers\.\d+)\.layers\."
_FLUX = (
    (_MODEL + r"1\.layers\.1\.layers\.[12]", "stem/"),
    (_BLOCK + r"1\.layers\.[12]", "#/shortcut/"),
    # After two layers, a bottleneck has the second two, an activation, and the last two; the other
    # block an activation and the last two.
    (_BLOCK + r"2\.layers\.[12]", "#/conv1/"),
    (_BLOCK + r"2\.layers\.[345]", "#/conv2/"),
    (_BLOCK + r"2\.layers\.[67]", "#/conv3/"),
    (_MODEL + r"2\.layers\.\d", "head"),
)

SOURCES = {
    "torchvision": Source(_TORCH),
    "timm": Source(_TORCH),
    # Keras's models are the paper's, which stride in a block's first 1x1 convolution.
    "keras": Source(
        _KERAS,
        KERAS,
        arguments={"stride_in_1x1": True, "norm_eps": 1.001e-5},
        normalization=CAFFE,
    ),
    "flux": Source(_FLUX, FLUX),
}
