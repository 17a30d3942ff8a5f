"""Options and fixtures for all tests."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings

import zoo
from zoo_kernels.native import build

settings.register_profile("quick", max_examples=12)
settings.register_profile("medium", max_examples=100)
settings.register_profile("thorough", max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

ROOT = Path(__file__).parent.parent
# The file that takes longest, as it compiles whole models.
LONGEST = "tests/zoo/models/test_models.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --unoptimised: most tests run a program once, so that compiling takes the time."""
    parser.addoption(
        "--unoptimised",
        action="store_true",
        help="compile without optimisation: before jax 0.11 in a quarter of the time, later in "
        "two thirds",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Sets XLA's flags, which it reads when it is first used."""
    if config.getoption("--unoptimised"):
        flags = [
            "--xla_backend_optimization_level=0",
            "--xla_llvm_disable_expensive_passes=true",
        ]
        if jax.__version_info__ < (0, 11):
            flags.append("--xla_cpu_use_fusion_emitters=false")
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest file, so that no process works on it alone at the end."""
    items.sort(key=lambda item: item.path.relative_to(ROOT).as_posix() != LONGEST)


@pytest.fixture(autouse=True, scope="session")
def _isolate_from_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests from the user's cache and stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("zoo-cache")))
        for name in ("ZOO_STORES", "ZOO_OFFLINE", "ZOO_TIMEOUT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def native_library(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled C++ of `zoo_kernels.native`; skips where it cannot be compiled.

    It is kept between runs in pytest's own cache, by a name that depends on its source.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the native layers are for Linux on x86-64")
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler is installed")
    if os.environ.get(build.SETTING) == "0":
        pytest.skip(f"the native layers are turned off by {build.SETTING}=0")
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("native") if cache else tmp_path_factory.mktemp("native")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_cache_folder", lambda: folder)
        assert build.unavailable() is None
    return build.library().path


@pytest.fixture(scope="session")
def root() -> Path:
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of example photos."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def lite() -> zoo.Trained:
    """EfficientNet-Lite0 with its ImageNet weights."""
    return zoo.trained(zoo.EfficientNetLite0)
