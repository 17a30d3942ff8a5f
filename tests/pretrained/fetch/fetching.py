"""Helpers for tests of downloads: a body, its digest, and the files beside a target."""

import hashlib
import random

from zoo_pretrained.fetch import Digest
from zoo_pretrained.fetch.partial import DownloadRequest, PartialFile

BODY = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)


def sha256(body):
    return Digest("sha256", hashlib.sha256(body).hexdigest())


DIGEST = sha256(BODY)
# The file that a download leaves beside its target.
LOCK = ".model.bin.lock"


def list_names(target):
    """Names of the files in the target's folder."""
    return sorted(path.name for path in target.parent.iterdir())


def leave_partial(target, url, body, *, tag='"one"'):
    """Writes the files that a killed download leaves."""
    target.parent.mkdir(exist_ok=True)
    part = PartialFile(target)
    part.create(DownloadRequest(url), tag)
    part.path.write_bytes(body)
