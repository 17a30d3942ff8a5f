"""The page and the plots that `benchmarks.report` makes from files of results."""

import pytest

from benchmarks.report import page as report_page
from benchmarks.report.__main__ import main
from benchmarks.report.readme import CPU, format_readme_parts
from benchmarks.report.records import RESULTS, RecordError, read_folder
from benchmarks.report.targets import LATENCY_SIZES
from benchmarks.visualize import cases
from tests.benchmarks.conftest import PAGE
from tests.benchmarks.fake_results import (
    detection,
    detection_row,
    latency,
    latency_row,
    models,
    row,
    scaling,
    style,
    style_quality,
    timing,
    training,
    training_loop,
    visualize,
)


@pytest.fixture
def _without_plots(monkeypatch):
    """Writes empty plots: drawing one takes a second."""
    draw = lambda record: report_page.plot_path(record).touch()  # noqa: E731
    monkeypatch.setattr(report_page, "draw_plot", draw)


without_plots = pytest.mark.usefixtures("_without_plots")


def test_the_committed_page_is_up_to_date(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out


@without_plots
def test_a_table_of_models(write_page):
    first = row("inference", ours=60, flax=600, torch=50)
    second = row("inference, fused", ours=40, torch=44)
    first |= {"compile": {"ours": 4.2}, "peak": {"ours": 310e6, "torch": 290e6}}
    second["refusals"] = {"flax": "cannot fold"}
    code, page = write_page(models=models(first, second))
    assert code == 0
    assert "### Models, jax 0.12.0.1" in page
    assert (
        "AMD EPYC, 2 cores; jax 0.12.0.1; torch 2.13.0; batch 8; size 224; dtype float32; "
        "copy 40.0 GB/s; product 200 GFLOP/s; commit abc1234." in page
    )
    assert "`python -m benchmarks.models`" in page
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    head, _, plain, fused = lines
    assert dict(zip(head, plain, strict=True)) == {
        "model": "MobileNetV2",
        "pass": "inference",
        "ours, ms": "60.0 ± 0.6",
        "flax, ms": "600 ± 6",
        "torch, ms": "50.0 ± 0.5",
        "ours / torch": "1.20",
        "target": "",
        "limit, ms": "12.5",
        "compile, s: ours": "4.20",
        "peak, MB: ours / torch": "310 / 290",
    }
    cells = dict(zip(head, fused, strict=True))
    assert (cells["flax, ms"], cells["ours / torch"]) == ("–", "0.909")
    assert cells["target"] == "**0.80 ≤ 0.8**"  # beside PyTorch's unfused inference
    assert "- MobileNetV2, inference, fused: flax was not timed: cannot fold" in page
    assert "![Ours over each peer](results/models.svg)" in page
    assert "No results with `--device gpu` yet." in page


@pytest.mark.parametrize(
    ("jax", "ours", "text"),
    [
        ("0.12.0.1", 65, "**1.30 ≤ 1.3**"),
        ("0.12.0.1", 66, "1.32 > 1.3"),
        ("0.10.2", 66, "**1.32 ≤ 2**"),
        ("0.10.2", 101, "2.02 > 2"),
    ],
)
@without_plots
def test_a_reached_target_is_bold(write_page, jax, ours, text):
    _, page = write_page(models=models(row(ours=ours, torch=50), jax=jax))
    assert f" | {text} | " in page
    assert f"Targets reached: {text.count('**') // 2} of 1." in page
    assert ("- MobileNetV2, training step: ours / torch" in page) == ("**" not in text)


@without_plots
def test_other_targets_than_time_beside_pytorch(write_page):
    slow = row(ours=60, flax=300, torch=50)
    slow |= {"compile": {"ours": 21.0}, "peak": {"ours": 2e8, "torch": 1e8}}
    _, page = write_page(models=models(slow))
    assert "Targets reached: 1 of 4. Missed:" in page
    for text in ("flax / ours 5.00 < 6", "peak, ours / torch 2.00 > 1", "compile, s 21.00 > 20"):
        assert f"- MobileNetV2, training step: {text}\n" in page


@pytest.mark.parametrize("change", [{"batch": 1}, {"size": 128}, {"dtype": "bfloat16"}])
@without_plots
def test_no_target_under_other_conditions(write_page, change):
    _, page = write_page(models=models({**row(ours=60, torch=50), **change}))
    assert "Targets" not in page
    assert "| target |" not in page


@without_plots
def test_varying_settings_are_columns(write_page):
    rows = [{**row(ours=6, torch=5), "batch": batch} for batch in (1, 8)]
    _, page = write_page(models=models(*rows))
    assert "| model | pass | batch | ours, ms |" in page
    assert "| MobileNetV2 | training step | 1 | 6.00 ± 0.06 |" in page
    assert "; size 224; dtype float32; copy" in page


@without_plots
def test_the_newest_jax_comes_first(write_page):
    _, page = write_page(a=models(row(ours=1), jax="0.9.5"), b=models(row(ours=1), jax="0.10.2"))
    assert page.index("### Models, jax 0.10.2") < page.index("### Models, jax 0.9.5")


@without_plots
def test_headings_name_the_topic_of_a_file(write_page):
    record = models(row(ours=1))
    files = {"models-cpu-batches-jax0.12": record, "models-cpu-jax0.12": record}
    _, page = write_page(**files)
    heading, topic = "### Models, jax 0.12.0.1\n", "### Models (batches), jax 0.12.0.1\n"
    assert page.index(heading) < page.index(topic)


@without_plots
def test_runs_on_a_gpu_have_their_own_part(write_page):
    gpu = models(row(ours=2, torch=1), device="NVIDIA H100", options=" --device gpu")
    _, page = write_page(gpu=gpu)
    before, after = page.split("<!-- generated: gpu -->")
    assert "NVIDIA H100" not in before
    assert "NVIDIA H100" in after
    assert "No results with `--device gpu`" not in page
    assert "Targets" not in page  # targets are for a CPU


@without_plots
def test_layers_have_their_own_part(write_page):
    layers = {**models(row("forward", "Conv 3x3 s2", ours=2)), "options": {"layers": True}}
    _, page = write_page(layers=layers)
    assert "### Layers, jax" in page
    assert "| layer | pass |" in page
    assert "No results of models yet." in page


@without_plots
def test_scaling_shows_the_exponent(write_page):
    _, page = write_page(scaling=scaling(1.5))
    assert "Milliseconds against batch (size 128, devices 1):" in page
    assert "| model | pass | candidate | batch 1 | batch 2 | batch 4 | exponent |" in page
    times = "10.0 ± 0.1 | 28.3 ± 0.3 | 80.0 ± 0.8"
    assert f"| MobileNetV2 | inference, fused | ours | {times} | 1.50 |" in page


@without_plots
def test_a_falling_time_has_a_negative_exponent(write_page):
    _, page = write_page(scaling=scaling(-0.75, axis="devices"))
    assert page.count("| −0.75 |") == 1


@without_plots
def test_one_value_has_no_exponent(write_page):
    content = scaling(1)
    content["rows"] = content["rows"][:1]
    _, page = write_page(scaling=content)
    assert "| ours | 10.0 ± 0.1 | – |" in page


def test_a_table_of_single_calls(write_page):
    rows = [
        latency_row(ours=24, ours_compiled=11, onnxruntime=10),
        latency_row(mode="taking turns", ours_compiled=12, onnxruntime=10),
        latency_row(batch=2, ours_compiled=20, onnxruntime=10),  # has no target
    ]
    rows[1]["refusals"] = {"ours": "out of memory"}
    _, page = write_page(latency=latency(*rows))
    assert "### Latency, jax 0.12.0\n\nAMD EPYC, 2 cores; jax 0.12.0; onnxruntime 1.32.0; " in page
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    head, _, alone, turns, other = [[cell.strip() for cell in line] for line in lines]
    assert dict(zip(head, alone, strict=True)) == {
        "model": "MobileNetV2",
        "batch": "1",
        "mode": "back to back",
        "ours, ms": "24.0 / 36.0 / 48.0",
        "ours, compiled, ms": "11.0 / 16.5 / 22.0",
        "onnxruntime, ms": "10.0 / 15.0 / 20.0",
        "calls of each": "50",
        "ours / onnxruntime": "2.40",
        "ours, compiled / onnxruntime": "1.10",
        "target": "**1.10 ≤ 1.15**",
    }
    assert (turns[3], turns[-3], turns[-1]) == ("–", "–", "1.20 > 1.15")
    assert other[-1] == ""
    assert "Targets reached: 1 of 2. Missed:" in page
    ratio = "ours, compiled / onnxruntime"
    assert f"- MobileNetV2, batch 1, taking turns: {ratio} 1.20 > 1.15\n" in page
    assert "- MobileNetV2, taking turns: ours was not timed: out of memory" in page


@pytest.mark.parametrize(("slower", "text"), [(2, ""), (3, "2.00 < 3")])
def test_the_target_of_all_models_together(write_page, slower, text):
    rows = [
        latency_row(name, ours_compiled=11 if i < slower else 10, onnxruntime=10)
        for i, name in enumerate(LATENCY_SIZES)
    ]
    _, page = write_page(latency=latency(*rows))
    assert f"Targets reached: {5 if text else 6} of 6." in page
    line = "- batch 1, back to back: models of 5 with ours, compiled / onnxruntime ≤ 1 2.00 < 3"
    assert (line in page) == bool(text)
    _, page = write_page(latency=latency(*rows[1:]))
    assert "Targets reached: 4 of 4." in page


def test_a_table_of_starts(write_page):
    start = {"model": "MobileNetV2", "batch": 1, "seconds": {"onnxruntime": timing(160)}}
    _, page = write_page(latency=latency(latency_row(ours=3), starts=[start]))
    assert "From a process's start to its first logits, with the weights in a file:" in page
    assert "| MobileNetV2 | 1 | 160 ± 2 |" in page
    assert "Targets" not in page


@without_plots
def test_a_table_of_operators(write_page):
    line = {"op": "conv", "pass": "forward", "of": "ours", "peer": "torch"}
    content = {
        "device": "AMD EPYC, 2 cores",
        "command": ["python -m benchmarks.operators --only a", "python -m benchmarks.operators"],
        "bandwidth": [40e9, 41e9],
        "rows": [{"op": "conv", "case": "a", "pass": "forward", "seconds": {"ours": timing(1)}}],
        "summary": [{**line, "times_as_fast": 1.25, "worst": 0.5}],
    }
    _, page = write_page(operators=content)
    assert "| conv | forward | 1.25 (0.500) |" in page
    assert "copy 40.0, 41.0 GB/s" in page
    assert "Milliseconds: ours." in page
    assert "| op | case | forward |\n| --- | --- | --: |\n| conv | a | 1.00 |" in page


def test_a_table_of_photos(write_page):
    seconds = {"jax-zoo": {**timing(500), "versions": {"jax": "0.12.0"}}}
    content = {
        "benchmark": "classify",
        "device": "a laptop",
        "command": "python -m benchmarks.models.classify",
        "start_s": {"cold": 3.04, "warm": 2.2},
        "batch": 32,
        "seconds_a_batch": seconds,
    }
    _, page = write_page(classify=content)
    assert "### Classification, jax 0.12.0\n\na laptop.\n`python -m" in page
    assert "takes 3.0 s at its first start, and 2.2 s later." in page
    assert "| jax-zoo | jax 0.12.0 | 64.0 | 63.4 to 64.6 |" in page


def test_a_table_of_loading_weights(write_page):
    content = {
        "benchmark": "weights",
        "device": "a laptop",
        "command": "python -m benchmarks.models.weights",
        "versions": {"jax": "0.10.2"},
        "model": "ResNet50",
        "bytes": 102.6e6,
        "seconds_warm": {"zoo.trained": timing(90)},
        "seconds_cold": {"zoo.trained": timing(190)},
        "peak_bytes": {"idle": {"all": 180e6}, "zoo.trained": {"all": 285e6}},
    }
    _, page = write_page(weights=content)
    assert "| in the page cache | 90.0 ± 0.9 |\n| from the disk | 190 ± 2 |" in page
    assert "peaks at 285 MB, 105 MB above one that only imports.\n" in page
    content["convert"] = {"model": "VGG19", "file_bytes": 575e6, "seconds": 5.2}
    content["convert"]["peak_over_file"] = 1.478
    _, page = write_page(weights=content)
    assert "VGG19's `.pth` of 575 MB takes 5 s and peaks at 1.48 times the file" in page


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.02, "**2.0 %** (1.0 to 3.0 %)"), (1.06, "6.0 % (4.9 to 7.1 %)")]
)
def test_a_table_of_the_training_loop(write_page, ratio, text):
    _, page = write_page(training=training_loop(ratio=timing(1e3 * ratio)))
    assert "### Training, loop\n\nAMD EPYC, 2 cores; commit abc1234.\n`python -m" in page
    assert "| case | batch | ours, fit, ms | ours, step, ms | overhead (target ≤ 5 %) |" in page
    assert f"| A | 16 | 102 ± 1 | 100 ± 1 | {text} |" in page


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.8, "**0.80** (0.79 to 0.81)"), (1.1, "1.10 (1.09 to 1.11)")]
)
def test_a_table_of_the_input(write_page, ratio, text):
    seconds = {"torch": timing(100), "ours": timing(80)}
    row = {"case": "B", "batch": 32, "seconds": seconds, "ratio": timing(1e3 * ratio)}
    _, page = write_page(training=training("input", row))
    assert "AMD EPYC, 2 cores; grain 0.2; jax 0.12.0; torch 2.13; commit abc1234." in page
    assert "| ours, photos/s | torch, photos/s | time, ours / torch (target ≤ 1) |" in page
    assert f"| B | 32 | 400 (396 to 404) | 320 (317 to 323) | {text} |" in page


def test_a_table_of_libraries_of_augmentation(write_page):
    row = {"case": "C", "batch": 32, "seconds": {"albumentations": timing(32)}}
    row["refusals"] = {"dm_pix": "it needs the package dm_pix"}
    _, page = write_page(training=training("libraries", row))
    assert "| case | batch | albumentations, photos/s | dm_pix, photos/s |" in page
    assert "| C | 32 | 1000 (990 to 1010) | – |" in page
    assert "- dm_pix was not timed: it needs the package dm_pix\n" in page


def attribution_row(method, model="ResNet18", ratio=None, **milliseconds):
    seconds = {name.replace("_", "-"): timing(each) for name, each in milliseconds.items()}
    row = {"model": model, "method": method, "seconds": seconds}
    row["first"] = dict.fromkeys(seconds, 2.5)
    return row if ratio is None else {**row, "ratio": timing(1e3 * ratio)}


def test_a_table_of_attributions_beside_libraries(write_page):
    rows = [
        attribution_row("gradient", ours=50, captum=100, ratio=2.0),
        attribution_row("grad-cam", ours=50, captum=40, pytorch_grad_cam=90, ratio=0.8),
    ]
    _, page = write_page(visualize=visualize(*rows))
    assert "AMD EPYC, 2 cores; jax 0.12.0; captum 0.9; torch 2.13; commit abc1234." in page
    heading = "| model | method | ours, ms | captum, ms | pytorch-grad-cam, ms | times as fast"
    assert f"{heading} (aim ≥ 1) |" in page
    assert "| ResNet18 | gradient | 50.0 ± 0.5 | 100 ± 1 | – | **2.00** (1.98 to 2.02) |" in page
    assert "| 50.0 ± 0.5 | 40.0 ± 0.4 | 90.0 ± 0.9 | 0.800 (0.792 to 0.808) |" in page
    assert "Slower than the faster library: ResNet18, grad-cam. " in page
    assert "At least twice as fast: **1 of 2** (aim: half)." in page
    assert "The geometric mean is 1.26 times as fast." in page  # √1.6


@pytest.mark.parametrize(
    ("passes", "seconds", "texts"),
    [
        (2.0, 50, ("**2.00 ≤ 3** forward passes", "**50.00 ≤ 60** s")),
        (3.5, 70, ("3.50 > 3 forward passes", "70.00 > 60 s")),
    ],
)
def test_a_table_of_the_embedded_model(write_page, passes, seconds, texts):
    cam = attribution_row(cases.GRAD_CAM_OF_A_FILE, cases.EMBEDDED, passes, ours=20)
    cam["seconds"][cases.FORWARD] = timing(10)
    dream = attribution_row(cases.DREAM, cases.EMBEDDED, ours=1e3 * seconds)
    rise = attribution_row(cases.RISE, cases.EMBEDDED, ours=900)
    _, page = write_page(visualize=visualize(cam, dream, rise))
    assert f"| 20.0 ± 0.2 | 2.50 | 10.0 ± 0.1 | {texts[0]} |" in page
    assert f"| 2.50 | – | {texts[1]} |" in page
    assert "| 900 ± 9 | 2.50 | – |  |" in page
    assert "faster library" not in page


def test_a_table_of_painting_beside_pytorch(write_page):
    def style_row(workload, ours, torch):
        seconds = {"ours": timing(ours), "torch": timing(torch)}
        ratio = timing(1e3 * torch / ours)
        return {"workload": workload, "seconds": seconds, "first": {"ours": 2.5}, "ratio": ratio}

    rows = [
        style_row("paint, width 1, 1 x 256²", 100, 90),  # is to be as fast
        style_row("training step, width 1, 4 x 256²", 100, 90),  # may take 1.2 times as long
        style_row("training step, width 1, 4 x 512²", 100, 80),
    ]
    _, page = write_page(style=style(*rows))
    assert "AMD EPYC, 2 cores; jax 0.12.0; torch 2.13; commit abc1234." in page
    assert "| workload | ours, ms | torch, ms | first call, s: ours | times as fast |" in page
    assert "| paint, width 1, 1 x 256² | 100 ± 1 | 90.0 ± 0.9 | 2.50 | 0.900 (0.891 to " in page
    assert "| 90.0 ± 0.9 | 2.50 | **0.900** (" in page
    assert "| 80.0 ± 0.8 | 2.50 | 0.800 (" in page


def test_a_table_of_detectors(write_page):
    rows = [
        detection_row("photo to boxes", ours=120, ours_native=90, torch=100),
        detection_row("photo to boxes", batch=8, ours_native=101, torch=100),
        detection_row("network", ours=100, ours_native=80, torch=100),
        detection_row("post-processing", ours=8),  # 9 % of 90
        detection_row("training step", batch=4, compiles=31, ours=115, torch=100),
        # Is to take at most 0.8 of torchvision's time.
        detection_row("photo to boxes", model="SSDLite320_MobileNetV3_Large", ours=81, torch=100),
        detection_row("post-processing", model="SSDLite320_MobileNetV3_Large", ours=9),
    ]
    shapes = {"sides": [800, 1333], "photos": "usual", "sizes": 50, "canvases": 13, "without": 19}
    _, page = write_page(
        detection=detection(*rows, canvases=[{**shapes, "mean": 0.015, "most": 0.2}])
    )
    head = (
        "| model | work | batch | ours, ms | ours, native, ms | torch, ms | ours / torch | "
        "compile, s: ours | compile, s: ours, native |"
    )
    assert head in page
    first = "| 120 ± 1 | 90.0 ± 0.9 | 100 ± 1 | **0.900** (0.891 to 0.909) | 5.00 | 5.00 |"
    assert f"| SSD300_VGG16 | photo to boxes | 1 {first}" in page
    assert "| network | 1 | 100 ± 1 | 80.0 ± 0.8 | 100 ± 1 | 0.800 (" in page  # has no target
    assert "| post-processing | 1 | 8.00 ± 0.08 | – | – | – | 5.00 | – |" in page
    _, _, missed = page.partition("Targets reached: 7 of 11. Missed:\n\n")
    assert missed.splitlines()[:4] == [
        "- SSD300_VGG16, photo to boxes, batch 8: ours / torch 1.01 > 1",
        "- SSD300_VGG16, training step, batch 4: compile of ours, s 31.00 > 30",
        "- SSDLite320_MobileNetV3_Large, photo to boxes, batch 1: ours / torch 0.81 > 0.8",
        "- SSDLite320_MobileNetV3_Large, post-processing, batch 1: share of the whole 0.11 > 0.1",
    ]
    assert "| 800 to 1333 | usual | 50 | 13 | 19 | 1.5% | 20.0% |" in page


def test_a_table_of_losses(write_page):
    def quality_row(style, photo, network):
        losses = {"unpainted": 6.0, "network": network, "optimized": 1.0}
        parts = {
            kind: {"loss": total, "content": total / 2, "style": total / 20, "total_variation": 0.1}
            for kind, total in losses.items()
        }
        return {"style": style, "photo": photo, **parts, "ratio": network}

    rows = [
        quality_row("ink", "cat", 1.2),
        quality_row("ink", "rocket", 1.4),
        quality_row("stars", "cat", 1.6),
        quality_row("stars", "rocket", 2.0),
    ]
    _, page = write_page(quality=style_quality(*rows))
    assert "### Losses of the embedded styles, judged by VGG16" in page
    cells = "6.00 (3.00, 0.300) | {} | 1.00 (0.50, 0.050) | {} |"
    assert cells.format("1.30 (0.65, 0.065)", "**1.30** (1.20 to 1.40)") in page
    assert cells.format("1.80 (0.90, 0.090)", "1.80 (1.60 to 2.00)") in page
    assert cells.format("1.55 (0.78, 0.077)", "1.55 (1.20 to 2.00)") in page


def survey_row(case, op="depthwise", **microseconds):
    fields = {"limit_us": 50.0, "triton_us": 100.0, "xla_us": None, "torch_eager_us": None}
    row = {"op": op, "case": case, "dtype": "float32", "pass": "forward"}
    return {**row, **fields, **microseconds}


def test_tables_of_a_gpu_survey(write_page):
    training = {"model": "VGG16", "ours": 3516, "ours_without_triton": None, "torch_compiled": 3695}
    content = {
        "benchmark": "gpu_survey",
        "device": "a GPU",
        "jax": "0.11.2",
        "torch": "2.11.0",
        "copy_bytes_per_s": 4e12,
        "method": "wall time",
        "training": {
            "settings": "bfloat16",
            "method": "One run",
            "rows": [training],
            "notes": ["A note"],
            "compile_method": "alone",
            "compile_seconds": {"VGG16": 14},
        },
        "rows": [
            survey_row("bias_act: 2x8x8x4", "bias_act", xla_us=90.0, torch_eager_us=200.0),
            survey_row("A: 5x5, 8²x4 N2", xla_us=200.0, torch_eager_us=101.0),
            survey_row("A: 5x5, 4²x4 N2", xla_us=50.0),
        ],
    }
    code, page = write_page(gpu=content)
    assert code == 0
    assert "| VGG16 | 3,516 | – | 3,695 | 0.952 |" in page
    # Above each of the three tables, as there may be several GPUs.
    assert page.count("a GPU; jax 0.11.2; torch 2.11.0; copy 4.00 TB/s.") == 3
    assert "A note." in page
    assert "Seconds to compile ours, alone: VGG16 14." in page
    depthwise = "| depthwise 5x5 | forward | float32 | 1.00 (0.500) | 1.01 (1.01) | 2.0 |"
    pointwise = "| bias_act | forward | float32 | 0.900 (0.900) | 2.00 (2.00) | 2.0 |"
    assert f"{depthwise}\n{pointwise}\n" in page
    assert "| A: 5x5, 8²x4 N2 | **100 / 200 / 101 (50)** |" in page  # the fastest
    assert "| A: 5x5, 4²x4 N2 | 100 / 50 / – (50) |" in page


def test_a_table_of_modelled_gpu_times(write_page):
    works = {
        "A: 3x3, 8²x4 N2, forward": 1.0,
        "B: 3x3 s2, 8²x4 N2, forward": 2.0,
        "B: 3x3 s2, 8²x4 N2, forward with bias": 9.0,
        "A: 3x3, 8²x4 N2 bfloat16, forward": 1.5,
        "batch_norm: 2x8x8x4, forward and backward": 1.25,
    }
    rows = [{"work": work, "model": time, "limit": 1.0} for work, time in works.items()]
    _, page = write_page(model={"arch": 90, "jax": "0.10.2", "rows": rows})
    assert "Compute capability 9.0; jax 0.10.2." in page
    assert "| depthwise 3x3 | float32 | 1.0 to 2.0 |\n| depthwise 3x3 | bfloat16 | 1.5 |" in page
    assert "| operator | dtype | forward and backward |" in page


def test_plots_are_reproducible(write_page, tmp_path):
    rows = [row(ours=60, torch=50, torch_compiled=40), row("inference", ours=3, torch=4)]
    files = {"models": models(*rows), "scaling": scaling(2, axis="size")}
    assert write_page(**files)[0] == 0
    plots = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert plots.keys() == {"models.svg", "scaling.svg"}
    for text in (b"MobileNetV2", b"ours / torch compiled", b"target", b"inference"):
        assert text in plots["models.svg"]
    assert b"MobileNetV2, inference, fused, ours: 2.00" in plots["scaling.svg"]
    write_page()
    assert plots == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}


def test_a_plot_leaves_out_refusals(write_page):
    refused = row("inference")
    refused["refusals"] = {"ours": "out of memory", "torch": "out of memory"}
    assert write_page(models=models(refused), alone=models(row(ours=1)))[0] == 0


@without_plots
def test_check_names_stale_files_and_writes_nothing(write_page, tmp_path, capsys):
    files = {"models": models(row(ours=60, torch=50))}
    code, page = write_page("--check", **files)
    assert (code, page) == (1, PAGE)
    assert f"not up to date: {tmp_path / 'page.md'}, models.svg" in capsys.readouterr().out
    assert write_page()[0] == 0
    assert write_page("--check")[0] == 0
    (tmp_path / "models.svg").unlink()
    assert write_page("--check")[0] == 1
    assert write_page("--check", models=models(row(ours=61, torch=50)))[0] == 1


@without_plots
def test_text_written_by_hand_stays(write_page):
    _, page = write_page()
    assert page.startswith("by hand\n<!-- generated: models -->\n\nNo results of models yet.")
    assert "stale" not in page
    assert write_page()[1] == page


def test_the_readme_shows_both_machines_and_what_was_not_timed():
    records = {record.path.name: record for record in read_folder(RESULTS)}
    table = format_readme_parts(records.values())["speed"].splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table}
    (step,) = (
        each
        for each in records[CPU].rows
        if (each["model"], each["pass"]) == ("VGG16", "training step")
    )
    for column, candidate in enumerate(("ours", "flax", "torch"), start=1):
        median = step["seconds"][candidate]["median"]
        assert cells["VGG16"][column] == f"{1e3 * median:,.0f}"
    assert cells["VGG16"][4:6] == ["3,516", "3,695"]  # as gpu-training on the page
    assert cells["DenseNet121"][5] == "–"


def test_the_readme_needs_both_files():
    with pytest.raises(RecordError, match=rf"expected {CPU} among the files of results"):
        format_readme_parts([])
