"""PyTorch's network of style transfer: `TransformerNet` of its example `fast_neural_style`.

Written anew from the paper and the names of the arrays in its checkpoints.
"""


def conv(x, state, name, stride=1):
    """A convolution whose borders are mirrored."""
    from torch.nn.functional import conv2d, pad

    kernel, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
    around = (kernel.shape[-1] // 2,) * 4
    return conv2d(pad(x, around, "reflect"), kernel, bias, stride)


def norm(x, state, name):
    from torch.nn.functional import instance_norm

    return instance_norm(x, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])


def transform(x, state):
    """Pixels [N, 3, H, W] from 0 to 255 → those of pictures."""
    from torch import relu
    from torch.nn.functional import interpolate

    for number, stride in ((1, 1), (2, 2), (3, 2)):
        x = relu(norm(conv(x, state, f"conv{number}", stride), state, f"in{number}"))
    for block in (f"res{number}" for number in range(1, 6)):
        y = relu(norm(conv(x, state, f"{block}.conv1"), state, f"{block}.in1"))
        x = norm(conv(y, state, f"{block}.conv2"), state, f"{block}.in2") + x
    for number in (1, 2):
        x = interpolate(x, scale_factor=2, mode="nearest")
        x = relu(norm(conv(x, state, f"deconv{number}"), state, f"in{3 + number}"))
    return conv(x, state, "deconv3")
