"""A step of training, and the quick look at a model's speed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from tests.zoo.cli.shell import runner
from tests.zoo.models.small_models import small
from zoo.runtime import bench, compiler
from zoo.training import step
from zoo_pretrained import cache


def test_a_step_is_what_optax_makes_of_the_gradients():
    model, variables, x = small("mobilenet_v1")
    labels, key = jnp.array([1, 4]), jax.random.key(3)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def loss(params):
        return step.classification_loss(model, {**variables, "params": params}, x, labels, key)

    (want, new), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients)
    state = step.init_train_state(jax.tree.map(jnp.copy, variables), optimizer)
    given = jax.tree.leaves(state)
    after, value = step.make_train_step(model, optimizer)(state, x, labels, key)
    assert value == pytest.approx(float(want), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        after.variables,
        {**new, "params": moved},
    )
    assert all(array.is_deleted() for array in given)  # donated


def test_the_loss_has_the_auxiliary_classifiers_share():
    model, variables, x = small("googlenet")
    labels = jnp.array([1, 4])
    model = model.clone(dropout_rate=0.0, auxiliary_dropout_rate=0.0)
    logits, new = model.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"])
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()
        for y in (logits, *jax.tree.leaves(new["intermediates"]))
    ]
    assert len(losses) == 2
    got, kept = step.classification_loss(model, variables, x, labels, jax.random.key(0))
    assert float(got) == pytest.approx(float(losses[0] + 0.3 * losses[1]), rel=1e-5)
    assert set(kept) == {"batch_stats"}


def test_rows_of_a_model():
    model, _, _ = small("squeezenet")
    rows = list(bench.measure(model, batch=2, size=33, rounds=3))
    assert [row.name for row in rows] == list(bench.PASSES)
    once = 2 * 2 * zoo.describe(model, size=33).multiply_adds
    assert [row.operations for row in rows] == [once, once, 3 * once]
    for row in rows:
        assert (row.batch, row.size, row.dtype, len(row.seconds)) == (2, 33, "float32", 3)
        lower, median, upper = row.quartiles
        assert 0 < lower <= median <= upper
        assert row.images_per_second == pytest.approx(2 / median)
        assert row.reached == pytest.approx(row.operations / median)
        assert row.compile > 0
        assert row.rate > 1e8
        json.dumps(row.as_dict())
    images = 2 * 33 * 33 * 3 * 4
    assert rows[2].peak > rows[0].peak > images


def test_bfloat16():
    model, _, _ = small("squeezenet")
    (row,) = bench.measure(
        model, batch=1, size=33, passes=["inference, fused"], dtype="bfloat16", rounds=2
    )
    assert row.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"rounds": 1}, "rounds must be at least 2"),
        ({"passes": ["flight"]}, "got 'flight'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, got 'int8'"),
        ({"size": 3}, "at least 17x17"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(options, words):
    with pytest.raises(ValueError, match=words):
        bench.measure("SqueezeNet1_1", **options)


class TestShell:
    @pytest.fixture
    def shell(self, monkeypatch, capfd):
        def measure(model, **options):
            if model != "Small":
                return bench.measure(model, **options)
            asked.append(options)
            return iter([MEASUREMENT])

        asked = []
        monkeypatch.setattr("zoo.cli.bench.measure", measure)
        run = runner(monkeypatch, capfd)
        return lambda *words: (*run("bench", *words), asked)

    def test_a_table(self, shell):
        code, out, err, asked = shell("Small")
        assert (code, err) == (0, "")
        first, heading, line = out.splitlines()
        assert first == (
            "Small, batch 8, 64×64, float32, on cpu; a matrix product reaches 50 GFLOP/s"
        )
        assert heading.split()[:3] == ["images/s", "ms", "quartiles"]
        cells = [
            "training step",
            "400.0",
            "20.00",
            "15.00 to 25.00",
            "10.0",
            "20%",
            "1.5",
            "3.0 MB",
        ]
        assert [cell.strip() for cell in line.split("  ") if cell] == cells
        assert asked[0]["passes"] == list(bench.PASSES)

    def test_json(self, shell):
        told = json.loads(shell("Small", "--json")[1])
        assert told["pass"] == "training step"
        assert told["seconds"] == pytest.approx({"median": 0.02, "lower": 0.015, "upper": 0.025})

    @pytest.mark.parametrize(
        ("words", "passes"),
        [
            (["--pass", "inference"], bench.PASSES[:2]),
            (["--pass", "training"], bench.PASSES[2:]),
            (["--fused"], bench.PASSES[1:]),
            (["--plain", "--pass", "inference"], bench.PASSES[:1]),
        ],
    )
    def test_what_is_timed(self, shell, words, passes):
        assert shell("Small", *words)[3][0]["passes"] == list(passes)

    @pytest.mark.parametrize("can", [True, False])
    def test_memory_is_kept_only_where_asked_and_possible(self, shell, monkeypatch, can):
        calls = []
        monkeypatch.setattr("zoo.cli.bench.keep_memory", lambda: calls.append("kept") or can)
        assert shell("Small")[0] == 0
        assert not calls
        code, out, err, _ = shell("Small", "--keep-memory")
        assert calls == ["kept"]
        assert code == (0 if can else 2)
        assert bool(out) == can
        assert ("--keep-memory" in err) != can

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["SqueezeNet"], 1, "did you mean SqueezeNet1_1"),
            (["SqueezeNet1_1", "--size", "3"], 2, "at least"),
            (["SqueezeNet1_1", "--batch", "0"], 2, "--batch"),
            (["SqueezeNet1_1", "--rounds", "1"], 2, "--rounds"),
            (["SqueezeNet1_1", "--dtype", "int8"], 2, "--dtype"),
        ],
    )
    def test_what_cannot_be(self, shell, words, code, message):
        got, out, err, _ = shell(*words)
        assert (got, out) == (code, "")
        assert message in err


MEASUREMENT = bench.Measurement(
    "Small", "training step", 8, 64, "float32", "cpu", (0.01, 0.02, 0.03), 1.5, 3_000_000,
    200_000_000, 50e9,
)  # fmt: skip


class TestCache:
    @pytest.fixture(autouse=True)
    def _as_it_was(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
        before = {name: jax.config.values[name] for name in names}
        yield
        for name, value in before.items():
            jax.config.update(name, value)
        compiler._enable_cache(jax.config.values["jax_enable_compilation_cache"])

    def test_programs_are_kept_and_uncached_ones_are_not(self, monkeypatch):
        monkeypatch.setattr(compiler, "compiler_options", dict)
        compiler.cache_compilations()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compiler._enable_cache(True)

        def kept():
            return set((cache.folder() / "compiled").glob("*-cache"))

        with compiler.uncached():
            jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
        assert not kept()
        jax.jit(lambda x: x * 5 + 1).lower(1.0).compile()
        assert kept()

    def test_a_chosen_place_stays(self, monkeypatch, tmp_path):
        monkeypatch.setattr(compiler, "compiler_options", dict)
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "chosen"))
        compiler.cache_compilations()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "chosen")

    def test_programs_that_call_onednn_cannot_be_kept(self, monkeypatch):
        monkeypatch.setattr(compiler, "compiler_options", lambda: {compiler.ONEDNN: True})
        before = jax.config.values["jax_compilation_cache_dir"]
        compiler.cache_compilations()
        assert jax.config.values["jax_compilation_cache_dir"] == before
