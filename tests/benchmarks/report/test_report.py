"""What `benchmarks.report` makes of files of results."""

import pytest

from benchmarks.report import __main__ as report
from tests.benchmarks.conftest import PAGE
from tests.benchmarks.made_up import growing, models, row, timing


@pytest.fixture
def _undrawn(monkeypatch):
    """Plots take a second each."""
    monkeypatch.setattr(report, "draw", lambda record: report.plotted(record).touch())


undrawn = pytest.mark.usefixtures("_undrawn")


def test_the_page_of_the_project_is_what_its_files_give(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().out


@undrawn
def test_a_table_of_models(made):
    first = row("inference", ours=60, flax=600, torch=50)
    second = row("inference, fused", ours=40, torch=44)
    first |= {"compile": {"ours": 4.2}, "peak": {"ours": 310e6, "torch": 290e6}}
    second["refusals"] = {"flax": "cannot fold"}
    code, page = made(models=models(first, second))
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
    told = dict(zip(head, fused, strict=True))
    assert (told["flax, ms"], told["ours / torch"]) == ("–", "0.909")
    assert told["target"] == "**0.80 ≤ 0.8**"  # beside PyTorch's unfused inference
    assert "- MobileNetV2, inference, fused: flax was not timed: cannot fold" in page
    assert "![Ours over each peer](results/models.svg)" in page
    assert "No GPU has been measured" in page


@pytest.mark.parametrize(
    ("jax", "ours", "words"),
    [
        ("0.12.0.1", 65, "**1.30 ≤ 1.3**"),
        ("0.12.0.1", 66, "1.32 > 1.3"),
        ("0.10.2", 66, "**1.32 ≤ 2**"),
        ("0.10.2", 101, "2.02 > 2"),
    ],
)
@undrawn
def test_the_target_is_bold_where_it_is_reached(made, jax, ours, words):
    _, page = made(models=models(row(ours=ours, torch=50), jax=jax))
    assert f" | {words} | " in page
    assert f"Targets reached: {words.count('**') // 2} of 1." in page
    assert ("- MobileNetV2, training step: ours / torch" in page) == ("**" not in words)


@undrawn
def test_targets_besides_the_time_beside_pytorch(made):
    slow = row(ours=60, flax=300, torch=50)
    slow |= {"compile": {"ours": 21.0}, "peak": {"ours": 2e8, "torch": 1e8}}
    _, page = made(models=models(slow))
    assert "Targets reached: 1 of 4. Missed:" in page
    for words in ("flax / ours 5.00 < 6", "peak, ours / torch 2.00 > 1", "compile, s 21.00 > 20"):
        assert f"- MobileNetV2, training step: {words}\n" in page


@pytest.mark.parametrize("change", [{"batch": 1}, {"size": 128}, {"dtype": "bfloat16"}])
@undrawn
def test_no_target_under_other_conditions(made, change):
    _, page = made(models=models({**row(ours=60, torch=50), **change}))
    assert "Targets" not in page
    assert "| target |" not in page


@undrawn
def test_settings_that_vary_are_columns(made):
    rows = [{**row(ours=6, torch=5), "batch": batch} for batch in (1, 8)]
    _, page = made(models=models(*rows))
    assert "| model | pass | batch | ours, ms |" in page
    assert "| MobileNetV2 | training step | 1 | 6.00 ± 0.06 |" in page
    assert "; size 224; dtype float32; copy" in page


@undrawn
def test_the_newest_jax_comes_first(made):
    _, page = made(a=models(row(ours=1), jax="0.9.5"), b=models(row(ours=1), jax="0.10.2"))
    assert page.index("### Models, jax 0.10.2") < page.index("### Models, jax 0.9.5")


@undrawn
def test_headings_tell_files_of_a_kind_apart(made):
    record = models(row(ours=1))
    files = {"models-cpu-batches-jax0.12": record, "models-cpu-jax0.12": record}
    _, page = made(**files)
    main, part = "### Models, jax 0.12.0.1\n", "### Models (batches), jax 0.12.0.1\n"
    assert page.index(main) < page.index(part)


@undrawn
def test_a_gpu_has_a_section_of_its_own(made):
    gpu = models(row(ours=2, torch=1), device="NVIDIA H100", options=" --device gpu")
    _, page = made(gpu=gpu)
    before, after = page.split("<!-- made: gpu -->")
    assert "NVIDIA H100" not in before
    assert "NVIDIA H100" in after
    assert "No GPU" not in page
    assert "Targets" not in page  # they are a CPU's


@undrawn
def test_layers_are_apart_from_models(made):
    layers = {**models(row("forward", "Conv 3x3 s2", ours=2)), "options": {"layers": True}}
    _, page = made(layers=layers)
    assert "### Layers, jax" in page
    assert "| layer | pass |" in page
    assert "No results of models yet." in page


@undrawn
def test_scaling_tells_the_exponent(made):
    _, page = made(scaling=growing(1.5))
    assert "Milliseconds against batch (size 128, devices 1):" in page
    assert "| model | pass | who | batch 1 | batch 2 | batch 4 | exponent |" in page
    times = "10.0 ± 0.1 | 28.3 ± 0.3 | 80.0 ± 0.8"
    assert f"| MobileNetV2 | inference, fused | ours | {times} | 1.50 |" in page


@undrawn
def test_what_falls_has_a_negative_exponent(made):
    _, page = made(scaling=growing(-0.75, axis="devices"))
    assert page.count("| −0.75 |") == 1


@undrawn
def test_one_value_has_no_exponent(made):
    told = growing(1)
    told["rows"] = told["rows"][:1]
    _, page = made(scaling=told)
    assert "| ours | 10.0 ± 0.1 | – |" in page


@undrawn
def test_operators_are_summed_up(made):
    line = {"op": "conv", "pass": "forward", "of": "ours", "peer": "torch"}
    told = {
        "device": "AMD EPYC, 2 cores",
        "command": ["python -m benchmarks.operators --only a", "python -m benchmarks.operators"],
        "bandwidth": [40e9, 41e9],
        "rows": [{"op": "conv", "case": "a", "pass": "forward", "seconds": {"ours": timing(1)}}],
        "summary": [{**line, "times_as_fast": 1.25, "worst": 0.5}],
    }
    _, page = made(operators=told)
    assert "| conv | forward | 1.25 (0.500) |" in page
    assert "copy 40.0, 41.0 GB/s" in page


def test_plots_are_made_the_same_again(made, tmp_path):
    rows = [row(ours=60, torch=50, torch_compiled=40), row("inference", ours=3, torch=4)]
    files = {"models": models(*rows), "scaling": growing(2, axis="size")}
    assert made(**files)[0] == 0
    plots = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert plots.keys() == {"models.svg", "scaling.svg"}
    for words in (b"MobileNetV2", b"ours / torch compiled", b"target", b"inference"):
        assert words in plots["models.svg"]
    assert b"MobileNetV2, inference, fused, ours: 2.00" in plots["scaling.svg"]
    made()
    assert plots == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}


def test_who_was_not_timed_has_no_dot(made):
    none = row("inference")
    none["refusals"] = {"ours": "out of memory", "torch": "out of memory"}
    assert made(models=models(none), alone=models(row(ours=1)))[0] == 0


@undrawn
def test_check_writes_nothing_and_knows_what_is_stale(made, tmp_path, capsys):
    files = {"models": models(row(ours=60, torch=50))}
    code, page = made("--check", **files)
    assert (code, page) == (1, PAGE)
    assert "not up to date: page.md, models.svg" in capsys.readouterr().out
    assert made()[0] == 0
    assert made("--check")[0] == 0
    (tmp_path / "models.svg").unlink()
    assert made("--check")[0] == 1
    assert made("--check", models=models(row(ours=61, torch=50)))[0] == 1


@undrawn
def test_what_is_written_by_hand_stays(made):
    _, page = made()
    assert page.startswith("by hand\n<!-- made: models -->\n\nNo results of models yet.")
    assert "stale" not in page
    assert made()[1] == page
