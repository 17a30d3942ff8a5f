"""What killed processes leave is removed by the next one, and what is in use never is."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.pretrained.unchecked import save_unchecked
from zoo_pretrained import archive, remote_store
from zoo_pretrained.temporary import temporary_folder

VARIABLES = {"params": {"w": np.ones(3)}}
# Each stops in the midst of what it makes, and says so.
STOP = """
import sys, time
from pathlib import Path
import numpy as np
from zoo_pretrained import archive, checkpoint, remote_store, save, store_files
from zoo_pretrained.temporary import temporary_folder

def stop(*_, **__):
    print("stopped", flush=True)
    time.sleep(60)

where = Path(sys.argv[1])
"""
CODE = {
    "save": "checkpoint._write = stop; save(where / 'a', {'w': np.ones(3)}, {})",
    "publish": "archive.pack = stop; remote_store.publish([where / 'sound'], str(where / 'store'))",
    "upload": (
        "store_files.shutil.copyfile = stop; "
        "remote_store.publish([where / 'sound'], str(where / 'store'))"
    ),
    "unpack": (
        "archive.unpack_archive = stop\nwith archive.unpack_temporarily(where / 'a.tar'): pass"
    ),
}


def hidden(folder):
    return [path for path in folder.rglob(".*") if path.is_dir()]


@pytest.mark.parametrize("name", CODE)
def test_a_killed_process_is_swept_and_a_live_one_is_not(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save_unchecked(tmp_path / "sound", VARIABLES, {"model": "ResNet18"})
    archive.pack(tmp_path / "sound", tmp_path / "a.tar")
    child = subprocess.Popen(
        [sys.executable, "-c", STOP + CODE[name], str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "stopped\n"
        left = hidden(tmp_path)
        assert left
        for folder in left:
            with temporary_folder(folder.parent / "other"):
                assert folder.is_dir()
        child.kill()
    assert hidden(tmp_path) == left
    for folder in left:
        with temporary_folder(folder.parent / "other") as own:
            assert own.is_dir()
            assert not folder.exists()
    assert hidden(tmp_path) == []


def test_what_is_not_ours_stays(tmp_path):
    others = [tmp_path / ".mine.abcdefgh", tmp_path / ".git"]
    for folder in others:
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "jax-zoo.lock").touch()
    (tmp_path / ".link").symlink_to(tmp_path / "real")
    with temporary_folder(tmp_path / "mine"):
        pass
    assert all((folder / "file").exists() for folder in others)
    assert (tmp_path / "real" / "jax-zoo.lock").exists()


def test_what_orbax_wrote_after_its_folder_was_removed_is_swept(tmp_path):
    late = tmp_path / ".mine.abcdefgh" / "new.orbax-checkpoint-tmp"
    late.mkdir(parents=True)
    (late / "file").touch()
    with temporary_folder(tmp_path / "mine"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_of_one_process_are_apart(tmp_path):
    with temporary_folder(tmp_path / "a") as one, temporary_folder(tmp_path / "a") as two:
        assert one != two
        assert one.is_dir()
        assert two.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_an_index_beyond_what_is_read_is_not_published(tmp_path, monkeypatch):
    save_unchecked(tmp_path / "sound", VARIABLES, {"model": "ResNet18"})
    monkeypatch.setattr("zoo_pretrained.bounded_json.MAX_BYTES", 100)
    with pytest.raises(remote_store.StoreError, match=r"the store is full: its index\.json"):
        remote_store._format_index(
            {"m": {"w": remote_store.StoredArchive("s", "a" * 99, "0" * 64)}}
        )
