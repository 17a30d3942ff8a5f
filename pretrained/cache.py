"""The user's cache folder."""

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """`$ZOO_CACHE`, or the folder that the platform keeps for caches; it may not exist yet."""
    chosen = os.environ.get("ZOO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("jax-zoo")
