"""Archives are reproducible, and hostile ones write nothing outside their folder."""

import io
import random
import tarfile

import numpy as np
import pytest

from tests.pretrained.unchecked import save_unchecked
from zoo_pretrained import archive, restore
from zoo_pretrained.archive import ArchiveError
from zoo_pretrained.checkpoint import CheckpointError


@pytest.fixture
def packed(tmp_path):
    variables = {"params": {"conv": {"kernel": np.arange(36.0).reshape(3, 3, 1, 4)}}}
    save_unchecked(tmp_path / "saved", variables, {"model": "ResNet18"})
    total = archive.pack(tmp_path / "saved", tmp_path / "packed.tar")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert total == sum(path.stat().st_size for path in files)
    return tmp_path / "packed.tar"


def test_round_trip_is_exact_and_reproducible(packed, tmp_path):
    archive.unpack_archive(packed, tmp_path / "out")
    kernel = restore(tmp_path / "out").variables["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel.ravel(), np.arange(36.0))
    archive.pack(tmp_path / "out", tmp_path / "repacked.tar")
    assert (tmp_path / "repacked.tar").read_bytes() == packed.read_bytes()


def write_tar(path, *members):
    """Writes an archive of (name or TarInfo, content)."""
    with tarfile.open(path, "w") as opened:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def special_member(name, kind, to=""):
    """A member that is not a regular file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def sparse_member(name):
    """A member of a few bytes that unpacks to a thousand."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": "1000",
    }
    return info


def old_sparse_member(name):
    """The same in the older form."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.size": "1000",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.numblocks": "1",
    }
    return info


HOSTILE = {
    "up": [("../evil", b"x")],
    "up inside": [("a/../../evil", b"x")],
    "absolute": [("/evil-of-the-zoo", b"x")],
    "not its own name": [("a//b", b"x")],
    "dot": [("./a", b"x")],
    "backslash": [("..\\evil", b"x")],
    "symlink": [(special_member("a", tarfile.SYMTYPE, "/etc/passwd"), b"")],
    "through a symlink": [(special_member("a", tarfile.SYMTYPE, ".."), b""), ("a/evil", b"x")],
    "hard link": [(special_member("a", tarfile.LNKTYPE, "../secret"), b"")],
    "device": [(special_member("a", tarfile.CHRTYPE), b"")],
    "pipe": [(special_member("a", tarfile.FIFOTYPE), b"")],
    "folder": [(special_member("a", tarfile.DIRTYPE), b"")],
    "twice": [("a", b"x"), ("a", b"y")],
    "a file as a folder": [("a", b"x"), ("a/b", b"y")],
    "a folder as a file": [("a/b", b"x"), ("a", b"y")],
    "too much": [("a", b"x" * 600), ("b", b"x" * 600)],
    "a name that is too long": [("a" * 300, b"x")],
    "a sparse file": [(sparse_member("a"), b"1\n0\n1\n".ljust(512, b"\0") + b"x")],
    "a sparse file of another kind": [(old_sparse_member("a"), b"x")],
    "deep": [("a/" * 10 + "b", b"x")],
    "nothing": [],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(name, tmp_path):
    file = write_tar(tmp_path / "hostile.tar", *HOSTILE[name])
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "in").mkdir()
    with pytest.raises(ArchiveError, match=r"hostile\.tar is (not safe to unpack|not an archive)"):
        archive.unpack_archive(file, tmp_path / "in" / "out", 1000)
    assert {path.name for path in tmp_path.iterdir()} == {"hostile.tar", "secret", "in"}
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert not links


def test_headers_for_all_members_are_refused(tmp_path):
    """A thousand of them would be copied to each of twenty thousand members."""
    with tarfile.open(tmp_path / "hostile.tar", "w", pax_headers={"comment": "x"}) as opened:
        opened.addfile(tarfile.TarInfo("a"), io.BytesIO())
    with pytest.raises(ArchiveError, match="it has headers for all of its members"):
        archive.unpack_archive(tmp_path / "hostile.tar", tmp_path / "out")


def test_names_in_messages_are_escaped(tmp_path):
    file = write_tar(tmp_path / "x.tar", ("a\x1b[31m\n/../b", b"x"))
    with pytest.raises(ArchiveError) as caught:
        archive.unpack_archive(file, tmp_path / "out")
    assert str(caught.value).isprintable()


def test_raises_for_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    file = write_tar(tmp_path / "many.tar", *((str(i), b"") for i in range(4)))
    with pytest.raises(ArchiveError, match="more than 3 files"):
        archive.unpack_archive(file, tmp_path / "out")


def test_raises_for_a_file_that_is_not_an_archive(tmp_path):
    file = tmp_path / "no.tar"
    file.write_bytes(b"PK" * 400)
    with pytest.raises(ArchiveError, match=r"no\.tar is not an archive of a checkpoint"):
        archive.unpack_archive(file, tmp_path / "out")


def test_a_compressed_archive_is_refused_unread(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar", "w:gz") as opened:
        info = tarfile.TarInfo("zeros")
        info.size = 10 << 20
        opened.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(ArchiveError, match="not an archive"):
        archive.unpack_archive(tmp_path / "bomb.tar", tmp_path / "out")


def test_a_hundred_damaged_archives(packed, tmp_path):
    """Truncated or with a flipped bit: refused, or unpacked and the damage found by `restore`."""
    original, rng = packed.read_bytes(), random.Random(0)
    refused = 0
    for number in range(100):
        damaged = bytearray(original)
        if number % 2:
            del damaged[rng.randrange(len(original) - 1024) :]
        else:
            # Bits of a header, or of what it holds.
            position = rng.randrange(len(original) // 512) * 512 + rng.randrange(160)
            damaged[position] ^= 1 << rng.randrange(8)
        packed.write_bytes(damaged)
        out = tmp_path / f"out{number}"
        try:
            archive.unpack_archive(packed, out, len(original))
            restore(out)
        except (ArchiveError, CheckpointError):
            refused += 1
        else:  # the end's padding, or a field that nothing reads
            kernel = restore(out).variables["params"]["conv"]["kernel"]
            np.testing.assert_array_equal(kernel.ravel(), np.arange(36.0))
    assert refused >= 50
