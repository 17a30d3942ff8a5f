"""Convolution by its definition, in NumPy's float64: a sum over taps, and its two adjoints."""

import numpy as np


def convolution(x, w, dy, strides, padding, dilation, groups):
    """Computes y, dx, dw for x [N, H, W, C] and w [kh, kw, C / groups, out]; dy None means ones."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    (top, bottom), (left, right) = padding
    (sh, sw), (dh, dw) = strides, dilation
    kh, kw, c, out = w.shape
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    padded = padded.reshape(*padded.shape[:3], groups, c)
    w = w.reshape(kh, kw, c, groups, out // groups)
    ho = (padded.shape[1] - (kh - 1) * dh - 1) // sh + 1
    wo = (padded.shape[2] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((x.shape[0], ho, wo, groups, out // groups))
    dy = np.ones(y.shape) if dy is None else np.asarray(dy, np.float64).reshape(y.shape)
    grad_x, grad_w = np.zeros(padded.shape), np.zeros(w.shape)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (ho - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (wo - 1) * sw + 1, sw)
            x_slice = padded[:, rows, columns]
            y += np.einsum("nhwgc,cgo->nhwgo", x_slice, w[i, j])
            grad_x[:, rows, columns] += np.einsum("nhwgo,cgo->nhwgc", dy, w[i, j])
            grad_w[i, j] = np.einsum("nhwgc,nhwgo->cgo", x_slice, dy)
    height, width = x.shape[1:3]
    grad_x = grad_x[:, top : top + height, left : left + width]
    return y.reshape(*y.shape[:3], -1), grad_x.reshape(x.shape), grad_w.reshape(kh, kw, c, out)


def explicit_padding(padding, x_shape, w_shape, geometry):
    """Resolves padding to ((top, bottom), (left, right)); SAME as TensorFlow defines it."""
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if isinstance(padding, int):
        return ((padding, padding),) * 2
    if padding != "SAME":
        return padding
    sides = []
    for n, k, s, d in zip(
        x_shape[1:3], w_shape[:2], geometry["strides"], geometry["dilation"], strict=True
    ):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        sides.append((total // 2, total - total // 2))
    return tuple(sides)
