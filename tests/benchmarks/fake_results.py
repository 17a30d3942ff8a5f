"""Files of results as the benchmarks write them, with figures that are made up."""


def timing(milliseconds, spread=0.01):
    """Quartiles as far from the median as `spread` says, relatively."""
    return {
        "median": 1e-3 * milliseconds,
        "lower": 1e-3 * milliseconds * (1 - spread),
        "upper": 1e-3 * milliseconds * (1 + spread),
    }


def row(pass_="training step", model="MobileNetV2", **milliseconds):
    """A row at which the targets count."""
    return {
        "model": model,
        "pass": pass_,
        "batch": 8,
        "size": 224,
        "dtype": "float32",
        "limit": 0.0125,
        "seconds": {name.replace("_", " "): timing(each) for name, each in milliseconds.items()},
        "compile": {},
        "peak": {},
        "refusals": {},
    }


def models(*rows, jax="0.12.0.1", device="AMD EPYC, 2 cores", options=""):
    """What `benchmarks.models` writes."""
    return {
        "benchmark": "models",
        "device": device,
        "command": f"python -m benchmarks.models{options}",
        "commit": "abc1234",
        "options": {},
        "versions": {"ours": {"jax": jax, "python": "3.13.0"}, "torch": {"torch": "2.13.0"}},
        "bandwidth": 40e9,
        "rate": 200e9,
        "rows": list(rows),
    }


def growing(exponent, axis="batch"):
    """What `benchmarks.models.scaling` writes of a model whose time grows with such an exponent."""
    fixed = {"batch": 8, "size": 128, "devices": 1}
    lines = [
        {
            "model": "MobileNetV2",
            "pass": "inference, fused",
            "axis": axis,
            "value": value,
            **fixed,
            axis: value,
            "seconds": {"ours": timing(10 * value**exponent)},
        }
        for value in (1, 2, 4)
    ]
    return {
        **models(*lines),
        "benchmark": "scaling",
        "command": "python -m benchmarks.models.scaling",
    }
