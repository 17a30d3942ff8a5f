"""Files of results as the benchmarks write them, with made-up figures."""


def timing(milliseconds, spread=0.01):
    """A timing whose quartiles are `spread` of the median away from it."""
    return {
        "median": 1e-3 * milliseconds,
        "lower": 1e-3 * milliseconds * (1 - spread),
        "upper": 1e-3 * milliseconds * (1 + spread),
    }


def row(pass_name="training step", model="MobileNetV2", **milliseconds):
    """A row under the conditions of the targets."""
    return {
        "model": model,
        "pass": pass_name,
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
    """A file of `benchmarks.models`."""
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


def scaling(exponent, axis="batch"):
    """A file of `benchmarks.models.scaling` whose times grow with this exponent."""
    fixed = {"batch": 8, "size": 128, "devices": 1}
    rows = [
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
        **models(*rows),
        "benchmark": "scaling",
        "command": "python -m benchmarks.models.scaling",
    }


def latency_row(model="MobileNetV2", batch=1, mode="back to back", **milliseconds):
    """A row of `benchmarks.models.latency` of 50 calls."""
    seconds = {
        name.replace("_", ", "): {
            **timing(each),
            "p90": 1.5e-3 * each,
            "p99": 2e-3 * each,
            "count": 50,
        }
        for name, each in milliseconds.items()
    }
    size = 299 if model == "Xception" else 224
    return {"model": model, "batch": batch, "size": size, "mode": mode, "seconds": seconds}


def latency(*rows, **content):
    """A file of `benchmarks.models.latency`."""
    versions = {"ours, compiled": {"jax": "0.12.0"}, "onnxruntime": {"onnxruntime": "1.32.0"}}
    return {
        "benchmark": "latency",
        "device": "AMD EPYC, 2 cores",
        "command": "python -m benchmarks.models.latency",
        "commit": "abc1234",
        "versions": versions,
        "rows": list(rows),
        **content,
    }


def training(topic, *rows):
    """A file of `benchmarks.training`."""
    return {
        "benchmark": "training",
        "topic": topic,
        "device": "AMD EPYC, 2 cores",
        "command": f"python -m benchmarks.training {topic}",
        "commit": "abc1234",
        "versions": {"ours": {"grain": "0.2", "jax": "0.12.0"}, "torch": {"torch": "2.13"}},
        "rows": list(rows),
    }


def training_loop(**ratio):
    """The same of the loop; `ratio` replaces that of its row."""
    fit_and_step = {"ours, fit": timing(102), "ours, step": timing(100)}
    row = {"case": "A", "batch": 16, "seconds": fit_and_step, "ratio": timing(1020)}
    return training("loop", {**row, **ratio})


def visualize(*rows):
    """A file of `benchmarks.visualize`."""
    return {
        "benchmark": "visualize",
        "device": "AMD EPYC, 2 cores",
        "command": "python -m benchmarks.visualize",
        "commit": "abc1234",
        "versions": {"ours": {"jax": "0.12.0"}, "captum": {"captum": "0.9", "torch": "2.13"}},
        "rows": list(rows),
    }


def style(*rows):
    """A file of `benchmarks.style`."""
    return {
        "benchmark": "style",
        "device": "AMD EPYC, 2 cores",
        "command": "python -m benchmarks.style",
        "commit": "abc1234",
        "versions": {"ours": {"jax": "0.12.0"}, "torch": {"torch": "2.13"}},
        "rows": list(rows),
    }


def style_quality(*rows):
    """A file of `benchmarks.style.quality`."""
    return {
        **style(*rows),
        "benchmark": "style_quality",
        "command": "python -m benchmarks.style.quality images",
        "judge": "VGG16",
        "versions": {"jax": "0.12.0"},
    }


def detection(*rows, canvases=()):
    """A file of `benchmarks.detection`."""
    return {
        **style(*rows),
        "benchmark": "detection",
        "command": "python -m benchmarks.detection",
        "canvases": list(canvases),
    }


def detection_row(work, batch=1, compiles=5.0, model="SSD300_VGG16", **milliseconds):
    """A row of `benchmarks.detection`; each of ours compiles in so many seconds."""
    seconds = {name.replace("_", ", "): timing(each) for name, each in milliseconds.items()}
    row = {
        "model": model,
        "work": work,
        "batch": batch,
        "seconds": seconds,
        "compile": {name: compiles for name in seconds if name != "torch"},
    }
    if "torch" in milliseconds:
        ours = milliseconds.get("ours_native", milliseconds.get("ours"))
        row["ratio"] = timing(1e3 * ours / milliseconds["torch"])
    return row
