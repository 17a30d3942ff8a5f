"""VGG, plain and with batch normalisation, as its sources name the layers.

Flux's names are Metalhead.jl's, taken from its source code and not tried in Julia: a model is
`Chain(Chain(convolutions, norms and pools...), Chain(flatten, Dense, Dropout, Dense, Dropout,
Dense))`. What holds the outermost Chain, such as "layers.", may come before its number.
"""

from zoo_pretrained.convert.frameworks import FLUX, KERAS
from zoo_pretrained.convert.rules import Rule
from zoo_pretrained.convert.source import CAFFE, Source

_TORCHVISION = (
    (r"features\.(?P<block>\d+)", "#/"),
    Rule(r"classifier\.0", "fc6", flattened=(512, 7, 7)),
    (r"classifier\.3", "fc7"),
    (r"classifier\.6", "head"),
)
_TIMM = (
    (r"features\.(?P<block>\d+)", "#/"),
    (r"pre_logits\.fc1", "fc6"),
    (r"pre_logits\.fc2", "fc7"),
    (r"head\.fc", "head"),
)
_KERAS = (
    (r"(?:.*/)?block(\d)_conv(\d)", r"stage\1/conv\2/"),  # a model's parts may have names too
    (r"fc1", "fc6"),
    (r"fc2", "fc7"),
    (r"predictions", "head"),
)
_MODEL = r"(?:[^\d.][^.]*\.)*"
_FLUX = (
    (_MODEL + r"1\.layers\.(?P<block>\d+)", "#/"),
    Rule(_MODEL + r"2\.layers\.2", "fc6", flattened=(512, 7, 7)),
    (_MODEL + r"2\.layers\.4", "fc7"),
    (_MODEL + r"2\.layers\.6", "head"),
)

SOURCES = {
    "torchvision": Source(_TORCHVISION),
    "timm": Source(_TIMM),
    "keras": Source(_KERAS, KERAS, normalization=CAFFE),
    "flux": Source(_FLUX, FLUX),
}
