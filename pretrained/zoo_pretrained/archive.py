"""Checkpoints as single files: tar archives, packed the same way each time, unpacked with care."""

import contextlib
import errno
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# No checkpoint of the zoo has a tenth of either.
MOST_FILES = 20_000
MOST_BYTES = 16 << 30


class ArchiveError(Exception):
    """A file that is no archive of a checkpoint, or one that is not safe to unpack; names it."""


def pack(folder: Path, target: Path) -> int:
    """Writes a folder's files to a tar archive, and returns how many bytes they have unpacked.

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


def unpack(archive: Path, folder: Path, size: int = MOST_BYTES) -> None:
    """Unpacks an archive that `pack` made into a new folder.

    Args:
      archive: an uncompressed tar file.
      folder: to make.
      size: what its files may have in all, in bytes.

    Raises:
      ArchiveError: it is no archive; or it holds links, devices, names that lead out of the
        folder, or that are there twice, too many files or too much.
    """
    try:
        with tarfile.open(archive, mode="r:") as opened:
            names: set[str] = set()
            for member in opened:
                problem = _problem(member, names, min(size, MOST_BYTES))
                if problem:
                    raise ArchiveError(f"{archive} is not safe to unpack: {problem}")
                names.add(member.name)
                size -= member.size
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(opened, member, target)
    except FileExistsError as error:  # a file where another member needs a folder, or the reverse
        raise ArchiveError(f"{archive} is not safe to unpack: {error.filename} twice") from error
    except (tarfile.TarError, EOFError, ValueError, RecursionError, NotADirectoryError) as error:
        raise ArchiveError(f"{archive} is no archive of a checkpoint: {error}") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ArchiveError(f"{archive} is not safe to unpack: a name in it is too long") from error
    if not names:
        raise ArchiveError(f"{archive} is no archive of a checkpoint: it is empty")


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A temporary folder with what an archive holds; errors as `unpack`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workshop:
        folder = Path(workshop) / "checkpoint"
        unpack(archive, folder)
        yield folder


def _problem(member: tarfile.TarInfo, names: set[str], left: int) -> str | None:
    """Why a member must not be unpacked, if so."""
    path = PurePosixPath(member.name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name
    if unsafe or path.as_posix() != member.name or member.name == ".":
        return f"{member.name!r} leads out of the folder"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return f"{member.name!r} is a link or another special file"
    if member.name in names:
        return f"{member.name!r} is there twice"
    if len(names) >= MOST_FILES:
        return f"it has more than {MOST_FILES} files"
    if member.size > left:
        return f"with {member.name!r} it has more bytes than it may"
    return None


def _copy(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = opened.extractfile(member)
    assert content is not None  # it is a regular file
    with content, target.open("xb") as file:
        while block := content.read(1 << 20):
            file.write(block)
        if file.tell() != member.size:
            raise tarfile.ReadError(f"{member.name!r} is cut off")
