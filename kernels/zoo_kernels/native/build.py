"""Compiles the C++ of this folder, once for a machine, and gives it to XLA."""

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax

# Turns the C++ off: "0".
SETTING = "ZOO_NATIVE"
SOURCES = ("simd.h", "threads.h", "dense.h", "depthwise.h", "handlers.cpp")
TARGETS = ("zoo_conv", "zoo_depthwise_conv", "zoo_max_pool")
FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread", "-w")
# Seconds; it takes about five.
TIME_LIMIT = 300


class Library(NamedTuple):
    """The compiled C++.

    Args:
      path: the file.
      lanes: how many float32 values a vector has.
    """

    path: Path
    lanes: int


class BuildError(RuntimeError):
    """There is no compiled C++, and none can be made; the message says why."""


def unavailable(*, compiles: bool = True) -> str | None:
    """Why the C++ cannot run here; None if it can.

    Args:
      compiles: compile it if that was not done before, in about ten seconds.
    """
    if not compiles and _refuse() is None and not _is_compiled():
        return "is not compiled yet; `Trained.compile` does that"
    try:
        library()
    except BuildError as error:
        return str(error)
    return None


def library() -> Library:
    """The compiled C++, known to XLA by the names of `TARGETS`.

    Raises:
      BuildError: it cannot be had.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise BuildError(loaded)
    return loaded


@functools.cache
def _load() -> Library | str:
    """The library, or the reason why there is none, which is found out once."""
    reason = _refuse()
    if reason is not None:
        return reason
    try:
        path = compile_library(_cache_folder())
        try:
            functions = _open(path)
        except (OSError, AttributeError):  # damaged: made once more
            path.unlink(missing_ok=True)
            functions = _open(compile_library(_cache_folder()))
    except (RuntimeError, OSError, ImportError, AttributeError) as error:
        return str(error)
    for target in TARGETS:
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(getattr(functions, target)), platform="cpu"
        )
    return Library(path, functions.zoo_lanes())


def _refuse() -> str | None:
    """Why nothing is to be compiled or loaded here; None if it may be."""
    if os.environ.get(SETTING) == "0":
        return f"is turned off by {SETTING}=0"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "is for Linux on x86-64"
    return None


def _open(path: Path) -> ctypes.CDLL:
    """Opens a library that nobody else can have written, and that has all functions."""
    for place in (path, path.parent):
        facts = place.stat()
        if facts.st_uid not in (0, os.getuid()) or facts.st_mode & stat.S_IWOTH:
            raise BuildError(f"is not loaded from {place}, which other users may change")
    functions = ctypes.CDLL(str(path))
    for name in (*TARGETS, "zoo_lanes"):
        getattr(functions, name)
    return functions


def compile_library(folder: Path, flags: tuple[str, ...] = FLAGS) -> Path:
    """Compiles the C++ into a folder, unless it was compiled there for this machine before.

    Returns:
      The library's path; its name depends on the source, the compiler, jaxlib and the processor.

    Raises:
      BuildError: no compiler, or it fails.
      OSError: the folder cannot be written.
    """
    compiler = _find_compiler()
    path = _library_path(folder, compiler, flags)
    if path.exists():
        return path
    source = Path(__file__).parent / SOURCES[-1]
    command = [*compiler, *flags, "-isystem", jax.ffi.include_dir(), str(source)]
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    # Beside its place first: another process may compile or load it at the same time.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".native-") as temporary:
        made = Path(temporary, path.name)
        _run([*command, "-o", str(made)])
        made.replace(path)
    return path


@functools.cache
def _is_compiled() -> bool:
    """Whether the library is there; what is compiled later in this process does not count."""
    try:
        return _library_path(_cache_folder(), _find_compiler(), FLAGS).exists()
    except (RuntimeError, OSError, ImportError):
        return False


def _find_compiler() -> list[str]:
    """The command of a C++ compiler: `CXX`, or the first that is installed."""
    found = next(filter(shutil.which, ("g++", "clang++", "c++")), "")
    command = shlex.split(os.environ.get("CXX") or found)
    if not command:
        raise BuildError("needs a C++ compiler, such as g++, and none is installed")
    return command


def _library_path(folder: Path, compiler: list[str], flags: tuple[str, ...]) -> Path:
    """Where the library is or will be, by all that it depends on."""
    version = _run([*compiler, "--version"])
    jaxlib = importlib.metadata.version("jaxlib")
    name = _digest((*flags, version, jaxlib, _processor(), digest_sources()))
    return folder / f"native-{name}.so"


def digest_sources() -> str:
    """A digest of the C++, which tells its versions apart."""
    return _digest((Path(__file__).parent / source).read_text() for source in SOURCES)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> str:
    """Runs a compiler, and returns what it prints.

    Raises:
      BuildError: it fails, or is not there.
    """
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"is not compiled by {command[0]} in {TIME_LIMIT} seconds") from None
    except OSError as error:
        raise BuildError(f"is not compiled by {command[0]}: {error}") from error
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["it fails"]
        telling = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"is not compiled by {command[0]}: {telling}")
    return result.stdout


def _processor() -> str:
    """What the processor can do, on which `-march=native` depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "model"))}))


def _cache_folder() -> Path:
    """Where compiled programs are kept: beside those of jax, which `zoo cache` lists."""
    if configured := os.environ.get("ZOO_CACHE"):
        return Path(configured).expanduser() / "compiled"
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "jax-zoo" / "compiled"
