"""Temporary folders beside what is made; the next process removes those of killed ones."""

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# In each of them: held while the folder is in use, and let go by the system if a process is killed.
LOCK = "jax-zoo.lock"
SUFFIX = 8 * "?"  # of a folder's name, from `tempfile`
UNFINISHED = ".orbax-checkpoint-tmp"  # ends the names of what Orbax is writing


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yields a new folder beside a target, so on its disk, and removes it at the end.

    What killed processes left in the same place, for whatever target, is removed first.
    """
    from filelock import FileLock

    _sweep(target)
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
        _remove(folder)
        lock.release()
        _remove(folder)  # Windows removes no file that is open


def reserve_space(folder: Path, needed: int) -> None:
    """Raises OSError where a folder cannot take so many bytes.

    Where Orbax finds that out, its threads print hundreds of tracebacks.
    """
    if not needed or not hasattr(os, "posix_fallocate"):
        return
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder.parent)) from error


@contextlib.contextmanager
def report_full_disk(target: Path) -> Iterator[None]:
    """Raises OSError with the target's name for what TensorStore and others say of a full disk."""
    try:
        yield
    except (OSError, ValueError) as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(target)) from error
        raise


def replace_folder(target: Path, new: Path) -> None:
    """Renames a finished folder to its target, in place of the folder that may be there.

    Args:
      target: where it goes.
      new: the folder, in one of `temporary_folder`, where the old one ends.
    """
    if target.exists() and _swap_folders(new, target):
        return
    old = new.with_name("old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _swap_folders(one: Path, other: Path) -> bool:
    """Swaps two folders atomically; returns False where the system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2  # Linux only
    except (OSError, AttributeError, TypeError):
        return False
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return not rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange)


def _sweep(target: Path) -> None:
    """Removes the temporary folders beside a target whose lock nobody holds."""
    from filelock import FileLock

    for file in target.parent.glob(f".*/{LOCK}"):
        # filelock's Timeout, where the lock is held, is an OSError.
        with contextlib.suppress(OSError):
            # In a shared folder, others may have made it, with links to anywhere inside.
            status = file.parent.lstat()
            if file.parent.is_symlink() or status.st_uid != getattr(os, "getuid", lambda: 0)():
                continue
            with FileLock(file, timeout=0):
                _remove(file.parent)
    # What a process leaves that is killed at the very end of removing, or before it has the lock.
    for folder in target.parent.glob(f".{glob.escape(target.name)}.{SUFFIX}"):
        with contextlib.suppress(OSError):
            # Orbax's threads may write on for a moment when a save has failed and is removed.
            endings = {path.suffix for path in folder.iterdir()}
            if endings == {UNFINISHED} and not folder.is_symlink():
                shutil.rmtree(folder)
            else:
                folder.rmdir()  # unless it is empty


def _remove(folder: Path) -> None:
    """Removes a folder, the lock last: if the process is killed, another one removes the rest."""
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != LOCK:
                item.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
