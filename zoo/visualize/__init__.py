"""Looks inside models: which pixels matter to a class, what layers respond to, how good maps are.

    lite = zoo.trained(zoo.EfficientNetLite0)
    zoo.visualize.grad_cam(lite, "cat.jpg")              # an Attribution, which shows itself
    zoo.visualize.feature(lite, "stage4:12")             # what a channel responds to
    zoo.visualize.metrics.deletion(lite, attribution)    # whether a map names what matters

`METHODS` has all methods that explain an answer, by name. They take a model, one or several images
and a target class, and return an `Attribution`.
"""

import functools
from collections.abc import Callable

from zoo.visualize import metrics
from zoo.visualize.activation_maps import activations
from zoo.visualize.adversarial import (
    AdversarialExample,
    fast_gradient_sign,
    projected_gradient_descent,
)
from zoo.visualize.attribution import Attribution, compare, make_attribution
from zoo.visualize.cam import (
    ablation_cam,
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    hires_cam,
    layer_cam,
    score_cam,
    x_grad_cam,
)
from zoo.visualize.embedding_map import embedding_map
from zoo.visualize.filter_plots import filters
from zoo.visualize.folders import nearest, top_photos
from zoo.visualize.gradients import (
    deconvnet,
    gradient,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    negative_saliency,
    positive_saliency,
    smooth_grad,
)
from zoo.visualize.inputs import TargetError, prepare_inputs
from zoo.visualize.layers import LayerError, list_layers
from zoo.visualize.optimization import (
    caricature,
    channel,
    class_image,
    class_logit,
    direction,
    feature,
    interpolate,
    invert,
    neuron,
)
from zoo.visualize.perturbation import occlusion, rise
from zoo.visualize.pictures import Gallery, Picture, PictureError

__all__ = [
    "METHODS",
    "AdversarialExample",
    "Attribution",
    "Gallery",
    "LayerError",
    "Picture",
    "PictureError",
    "TargetError",
    "ablation_cam",
    "activations",
    "caricature",
    "channel",
    "class_image",
    "class_logit",
    "compare",
    "deconvnet",
    "direction",
    "eigen_cam",
    "embedding_map",
    "fast_gradient_sign",
    "feature",
    "filters",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "interpolate",
    "invert",
    "layer_cam",
    "list_layers",
    "make_attribution",
    "metrics",
    "nearest",
    "negative_saliency",
    "neuron",
    "occlusion",
    "positive_saliency",
    "prepare_inputs",
    "projected_gradient_descent",
    "rise",
    "score_cam",
    "smooth_grad",
    "top_photos",
    "x_grad_cam",
]

METHODS: dict[str, Callable[..., Attribution]] = {
    "gradient": gradient,
    "input-x-gradient": input_x_gradient,
    "positive-saliency": positive_saliency,
    "negative-saliency": negative_saliency,
    "smooth-grad": smooth_grad,
    "smooth-grad-squared": functools.partial(smooth_grad, statistic="square"),
    "var-grad": functools.partial(smooth_grad, statistic="variance"),
    "integrated-gradients": integrated_gradients,
    "guided-backprop": guided_backprop,
    "deconvnet": deconvnet,
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "xgrad-cam": x_grad_cam,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
    "eigen-cam": eigen_cam,
    "score-cam": score_cam,
    "ablation-cam": ablation_cam,
    "guided-grad-cam": guided_grad_cam,
    "occlusion": occlusion,
    "rise": rise,
}
