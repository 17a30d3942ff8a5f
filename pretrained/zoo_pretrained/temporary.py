"""Temporary folders beside what is made; the next process removes those of killed ones."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# In each of them: held while the folder is in use, and let go by the system if a process is killed.
LOCK = "jax-zoo.lock"


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yields a new folder beside a target, so on its disk, and removes it at the end.

    What killed processes left in the same place, for whatever target, is removed first.
    """
    from filelock import FileLock

    _sweep(target.parent)
    while True:
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        lock = FileLock(folder / LOCK)
        with contextlib.suppress(FileNotFoundError):
            lock.acquire()
            if (folder / LOCK).is_file():
                break
            lock.release()
        # Another process has swept it before the lock was held.
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)  # Windows removes no file that is open


def _sweep(parent: Path) -> None:
    """Removes the temporary folders in a folder whose lock nobody holds."""
    from filelock import FileLock

    for file in parent.glob(f".*/{LOCK}"):
        # filelock's Timeout, where the lock is held, is an OSError.
        with contextlib.suppress(OSError):
            # In a shared folder, others may have made it, with links to anywhere inside.
            status = file.parent.lstat()
            if file.parent.is_symlink() or status.st_uid != getattr(os, "getuid", lambda: 0)():
                continue
            with FileLock(file, timeout=0):
                shutil.rmtree(file.parent, ignore_errors=True)
