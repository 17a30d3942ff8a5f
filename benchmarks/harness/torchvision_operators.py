"""Makes torchvision and its compiled operators usable beside a PyTorch that has no CUDA.

torchvision's wheel on PyPI is linked with CUDA's libraries, which a CPU build of PyTorch does not
bring, so its operators do not load. Those for the CPU need none of them: empty libraries in their
place are enough.
"""

import ctypes
import functools
import importlib.util
import subprocess
import tempfile
from pathlib import Path
from typing import Any

DECLARED: list[Any] = []  # what a torch.library.Library declares lives as long as it

# What torchvision 0.28 wants of each library that is missing. Most are never called on a CPU; the
# `__cudaRegister` functions are when the library loads, and may return anything.
FUNCTIONS = {
    "libcudart.so.13": (
        "__cudaGetKernel __cudaInitModule __cudaLaunchKernel __cudaPopCallConfiguration "
        "__cudaPushCallConfiguration __cudaRegisterFatBinary __cudaRegisterFatBinaryEnd "
        "__cudaRegisterFunction __cudaRegisterVar __cudaUnregisterFatBinary cudaDeviceSynchronize "
        "cudaEventCreateWithFlags cudaEventDestroy cudaEventElapsedTime cudaEventQuery "
        "cudaEventRecord cudaEventSynchronize cudaGetErrorString cudaGetLastError "
        "cudaStreamIsCapturing cudaStreamWaitEvent"
    ),
    "libc10_cuda.so": (
        "_ZN3c104cuda12device_countEv _ZN3c104cuda14ExchangeDeviceEa "
        "_ZN3c104cuda14MaybeSetDeviceEa _ZN3c104cuda17getStreamFromPoolEba "
        "_ZN3c104cuda17getStreamFromPoolEia _ZN3c104cuda20CUDACachingAllocator9allocatorE "
        "_ZN3c104cuda20getCurrentCUDAStreamEa _ZN3c104cuda20getDefaultCUDAStreamEa "
        "_ZN3c104cuda20setCurrentCUDAStreamENS0_10CUDAStreamE "
        "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb _ZN3c104cuda9GetDeviceEPa "
        "_ZN3c104cuda9SetDeviceEab _ZNK3c104cuda10CUDAStream11synchronizeEv "
        "_ZNK3c104cuda10CUDAStream5queryEv _ZNK3c104cuda10CUDAStream6streamEv"
    ),
    "libtorch_cuda.so": "_ZN2at4cuda26getCurrentDevicePropertiesEv",
}


@functools.cache
def load_operators() -> bool:
    """Whether torchvision's own operators could be loaded, which its detectors need.

    Where they could not, they are declared, which is enough to import the rest of torchvision. To
    be called before it is imported.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    try:
        if torch.version.cuda is None:
            load_empty_libraries()
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except (OSError, subprocess.CalledProcessError):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        DECLARED.append(library)
        return False
    return True


def declare_operators() -> None:
    """Lets torchvision be imported, by who needs no operator of it."""
    load_operators()


def load_empty_libraries() -> None:
    """Loads libraries with all the functions that are wanted, which return 0.

    Raises:
      OSError: there is no C compiler, or a library does not load.
      subprocess.CalledProcessError: the compiler fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, versions = Path(folder, "empty.c"), Path(folder, "versions")
        for name, functions in FUNCTIONS.items():
            definitions = [
                f"void *{function}(void) {{ return 0; }}" for function in functions.split()
            ]
            source.write_text("\n".join(definitions))
            versions.write_text(f"{name} {{ *; }};")  # CUDA names the versions of its functions so
            library = Path(folder, name)
            options = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{name},--version-script,{versions}"]
            subprocess.run(["cc", *options, "-o", library, source], check=True, capture_output=True)
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
