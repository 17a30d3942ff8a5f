"""Conversion backwards: our weights under a source's names, and in its layouts.

Rules rank the blocks of a source and forget the numbers that it gives them, so a template is needed
that has the names. `convert` copies nothing: what is written into its views is in the source's
arrays. So there is no second set of rules, and none of layouts.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from zoo_pretrained.checkpoint import flatten_variables
from zoo_pretrained.convert import convert
from zoo_pretrained.convert.frameworks import classify_modules, list_source_arrays
from zoo_pretrained.convert.rules import find_targets
from zoo_pretrained.convert.source import Source


def invert(
    variables: Mapping[str, Any],
    source: Source,
    template: Mapping[str, np.ndarray],
    input_conv: str,
    classifier: Collection[str],
) -> dict[str, np.ndarray]:
    """The arrays that `convert` makes these variables of.

    Args:
      variables: ours.
      source: one of PyTorch's names, whose arrays have outputs on their first axis.
      template: arrays of the source's model by name; their values do not matter, and it may be for
        another number of classes or of image channels.
      input_conv: the path of our first convolution.
      classifier: our outermost modules whose outputs depend on the number of classes.

    Returns:
      Arrays by the template's names. A convolution's bias that ours lacks is zero; what is no
      weight, such as a count of batches, is the template's.

    Raises:
      ConversionError: the template's names are not those of this model.
    """
    ours = {path: np.asarray(array) for path, array in flatten_variables(variables)}
    dtype = np.result_type(*ours.values())
    source_arrays = list_source_arrays(template, source.framework)
    targets = find_targets(classify_modules(source_arrays), source.rules, ours)
    theirs, absorbed = {}, set()
    for source_array in source_arrays:
        shape = template[source_array.name].shape
        target = targets[source_array.module].path if source_array.module in targets else ""
        path = f"params/{target}/{source_array.role}"
        if target.split("/")[0] in classifier and path in ours:
            shape = (ours[path].shape[-1], *shape[1:])
        if target == input_conv and source_array.role == "kernel":
            shape = (shape[0], ours[path].shape[2], *shape[2:])
        theirs[source_array.name] = np.zeros(shape, dtype)
        if path.endswith("/conv/bias") and path not in ours:
            absorbed.add(source_array.name)
    given = {name: array for name, array in theirs.items() if name not in absorbed}
    for path, lazy in flatten_variables(convert(given, source, variables, dtype=dtype)):
        lazy.view[...] = ours[path].reshape(lazy.view.shape)
    return {name: theirs.get(name, array) for name, array in template.items()}
