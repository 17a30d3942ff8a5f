"""What the tests of downloads share: a body, its digest, and the files beside a target."""

import hashlib
import random

from zoo_pretrained.fetch import Digest
from zoo_pretrained.fetch.partial import Partial, Source

BODY = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)


def sha256(body):
    return Digest("sha256", hashlib.sha256(body).hexdigest())


DIGEST = sha256(BODY)
# What a finished download leaves beside a target.
LOCK = ".model.bin.lock"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def leave(target, url, body, *, tag='"one"'):
    """What a download that was killed leaves."""
    target.parent.mkdir(exist_ok=True)
    part = Partial(target)
    part.begin(Source(url), tag)
    part.path.write_bytes(body)
