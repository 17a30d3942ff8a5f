"""How good a map is: whether the pixels that it names matter, and whether it depends on the model.

* `insertion`, `deletion`: the class's probability as the map's pixels are shown or removed.
* `road`: the change of the probability as pixels are removed without a trace.
* `infidelity`: how well the map predicts the change of the logit under random perturbations.
* `max_sensitivity`: how far the map changes where the image hardly does.
* `cascade_randomization`: whether the map changes as the weights are randomised.
* `completeness`: whether integrated gradients sum to the change of the logit.
"""

from zoo.visualize.metrics.curves import Curves, deletion, insertion
from zoo.visualize.metrics.fidelity import completeness, infidelity
from zoo.visualize.metrics.randomization import Cascade, cascade_randomization
from zoo.visualize.metrics.road import Road, road
from zoo.visualize.metrics.sensitivity import max_sensitivity

__all__ = [
    "Cascade",
    "Curves",
    "Road",
    "cascade_randomization",
    "completeness",
    "deletion",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "road",
]
