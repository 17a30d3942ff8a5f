"""Archives and indices of stores that ask for hours or gigabytes; see `bombs`."""

import io
import json
import tarfile


def write_tars(folder):
    """Archives of checkpoints."""

    def write(name, members, **options):
        with tarfile.open(folder / name, "w", **options) as file:
            for member, content in members:
                info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return folder / name

    def with_headers(name, headers, content=b""):
        info = tarfile.TarInfo(name)
        info.pax_headers = headers
        return info, content

    big = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 33)}
    yield write("sparse.tar", [with_headers("a", big, b"1\n0\n1\n".ljust(512, b"\0") + b"a")])
    sizes = {"GNU.sparse.size": str(1 << 33), "GNU.sparse.map": "0,1", "GNU.sparse.numblocks": "1"}
    yield write("old sparse.tar", [with_headers("a", sizes, b"a")])
    yield write("files.tar", ((str(n), b"") for n in range(6_000)))
    yield write("folders.tar", (("a/" * 40 + f"{n}/" * 8 + "b", b"") for n in range(4000)))
    names = (("n" * 150 + f"/{n}", b"") for n in range(500))
    yield write("long names.tar", names)
    yield write("a long name.tar", [("n" * 4_000_000, b"")])
    headers = {f"K{n}": "v" * 20 for n in range(40_000)}
    yield write("headers.tar", ((str(n), b"") for n in range(4_000)), pax_headers=headers)
    yield write(
        "own headers.tar", (with_headers(str(n), {"path": "a" * 1000}) for n in range(4000))
    )


def write_indices(folder):
    """Folders with the index of a store."""
    entry = {"archive": "a.tar", "sha256": "0" * 64, "size": 1, "unpacked": 1}
    indices = {
        "models": {f"m{n}": {"w": entry} for n in range(20_000)},
        "format": [["x" * 1000]] * 3000,
        "name": {"\x1b\n" * 900_000: {"w": entry}},
    }
    for name, checkpoints in indices.items():
        form = checkpoints if name == "format" else 1
        (folder / name).mkdir()
        text = json.dumps({"format": form, "checkpoints": checkpoints})
        (folder / name / "index.json").write_text(text)
        yield folder / name
    for name, text in {
        "deep": "[" * 4_000_000,
        "long": f'{{"format":"{"a" * 9_000_000}"}}',
    }.items():
        (folder / f"{name} index").mkdir()
        (folder / f"{name} index" / "index.json").write_text(text)
        yield folder / f"{name} index"
