"""The version, and a check that the two lower floors are this distribution's own.

`kernels` and `pretrained` are names that others use too; whichever comes first on the path wins.
"""

import importlib

__version__ = "0.1.0"

DISTRIBUTION = "jax-zoo"

for _part in ("kernels", "pretrained"):
    try:
        _module = importlib.import_module(_part)
    except ImportError as _error:
        raise ImportError(
            f"{DISTRIBUTION} needs its package {_part!r}, which cannot be imported ({_error}); "
            f"reinstall {DISTRIBUTION}"
        ) from _error
    if getattr(_module, "DISTRIBUTION", None) != DISTRIBUTION:
        _place = _module.__file__ or list(_module.__path__)
        raise ImportError(
            f"{DISTRIBUTION} needs its own package {_part!r}, but another one shadows it: "
            f"{_place}. Move that one away (uninstall its distribution, rename the folder or "
            f"change sys.path), then reinstall {DISTRIBUTION}"
        )
