"""Checkpoints as single files: reproducible tar archives, unpacked safely."""

import contextlib
import errno
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from zoo_pretrained.printable import OneLineError, printable
from zoo_pretrained.temporary import temporary_folder

# Limits for any archive; no checkpoint of the zoo has a tenth of either.
MAX_FILES = 20_000
MAX_BYTES = 16 << 30
MAX_DEPTH = 10  # folders in each other


class ArchiveError(OneLineError):
    """A file is not an archive of a checkpoint, or is not safe to unpack; names the file."""


def pack(folder: Path, target: Path) -> int:
    """Writes a folder's files to a tar archive, and returns their total size in bytes.

    The same files give the same archive: they are sorted, and owners and times are left out.
    """
    total = 0
    with target.open("xb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size = file.stat().st_size
            total += member.size
            with file.open("rb") as content:
                archive.addfile(member, content)
        stream.flush()
        os.fsync(stream.fileno())
    return total


def unpack_archive(archive: Path, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Unpacks an archive that `pack` made into a new folder.

    Args:
      archive: an uncompressed tar file.
      folder: the folder to make.
      max_bytes: the largest total size of its files.

    Raises:
      ArchiveError: the file is not an archive; or it holds links, devices, names that lead out of
        the folder or occur twice, too many files, or too many bytes.
    """
    try:
        with tarfile.open(archive, mode="r:") as tar:
            names: set[str] = set()
            remaining = min(max_bytes, MAX_BYTES)
            for member in tar:
                problem = _find_problem(member, names, remaining)
                # Python would apply those of all members to each of them.
                problem = "it has headers for all of its members" if tar.pax_headers else problem
                if problem:
                    raise ArchiveError(f"{archive} is not safe to unpack: {problem}")
                names.add(member.name)
                remaining -= member.size
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _extract(tar, member, target)
    except FileExistsError as error:  # a file where another member needs a folder, or the reverse
        raise ArchiveError(
            f"{archive} is not safe to unpack: {error.filename} occurs twice"
        ) from error
    except (tarfile.TarError, EOFError, ValueError, RecursionError, NotADirectoryError) as error:
        raise ArchiveError(f"{archive} is not an archive of a checkpoint: {error}") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ArchiveError(f"{archive} is not safe to unpack: a name in it is too long") from error
    if not names:
        raise ArchiveError(f"{archive} is not an archive of a checkpoint: it is empty")


@contextlib.contextmanager
def unpack_temporarily(archive: Path) -> Iterator[Path]:
    """Yields a temporary folder with an archive's files; errors as for `unpack_archive`."""
    with temporary_folder(Path(tempfile.gettempdir()) / "jax-zoo-archive") as temporary:
        folder = temporary / "checkpoint"
        unpack_archive(archive, folder)
        yield folder


def _find_problem(member: tarfile.TarInfo, names: set[str], remaining: int) -> str | None:
    """Says why a member must not be unpacked; None if it may be.

    Args:
      member: the next member.
      names: those unpacked before it.
      remaining: the bytes that the archive may still have.
    """
    path = PurePosixPath(member.name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name
    name = printable(repr(member.name))
    if unsafe or path.as_posix() != member.name or member.name == ".":
        return f"{name} leads out of the folder"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return f"{name} is a link or another special file"
    if member.sparse is not None:  # the holes take no bytes of the archive, but of the disk
        return f"{name} is a sparse file"
    if len(path.parts) > MAX_DEPTH:
        return f"{name} is in more than {MAX_DEPTH} folders"
    if member.name in names:
        return f"{name} occurs twice"
    if len(names) >= MAX_FILES:
        return f"it has more than {MAX_FILES} files"
    if member.size > remaining:
        return f"with {name} it has more bytes than it may"
    return None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    with content, target.open("xb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
        if file.tell() != member.size:
            raise tarfile.ReadError(f"{member.name!r} is cut off")
