"""Downloads that are interrupted are resumed where they ended."""

import json

import pytest

from tests.pretrained.fetch.fetching import (
    BODY,
    DIGEST,
    LOCK,
    OTHER,
    leave_partial,
    list_names,
    sha256,
)
from zoo_pretrained import fetch as package
from zoo_pretrained.fetch import FetchError, fetch

pytestmark = pytest.mark.usefixtures("clean_environment")

MODIFIED = "Tue, 15 Nov 1994 12:45:26 GMT"


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
def test_an_interrupted_download_is_resumed(server, target, monkeypatch, fault):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    url = server.add("/a", BODY, **{fault: (2, 60_000)})
    fetch(url, target, digest=DIGEST)
    assert target.read_bytes() == BODY
    first, second, third = server.starts("/a")
    assert first is None
    # A reset may lose bytes that were sent.
    assert second == 60_000 if fault != "reset" else 0 <= (second or 0) <= 60_000
    assert third == 120_000 if fault != "reset" else (third or 0) <= 120_000
    assert list_names(target) == [LOCK, "model.bin"]


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"one"', MODIFIED, '"one"'),
        ('W/"one"', MODIFIED, None),
        (None, MODIFIED, MODIFIED),
        (None, None, None),
    ],
)
def test_a_range_is_requested_of_the_same_version_only(server, target, etag, modified, condition):
    url = server.add("/a", BODY, etag=etag, modified=modified)
    leave_partial(target, url, BODY[:1000], tag=etag or modified)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [1000]
    assert server.requests[0].headers.get("if-range") == condition
    assert server.requests[0].sent == len(BODY) - 1000


@pytest.mark.parametrize(
    ("ranges", "starts"), [("ignored", [None, 60_000]), ("wrong", [None, 60_000, None])]
)
def test_servers_that_ignore_or_confuse_ranges(server, target, ranges, starts):
    url = server.add("/a", BODY, ranges=ranges, truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts


@pytest.mark.parametrize("etags", [('"one"', '"two"'), ('W/"one"', 'W/"two"')])
def test_a_file_that_changed_meanwhile_is_downloaded_again(server, target, etags):
    def change_file(file):
        if server.requests[1:]:
            file.body, file.etag = BODY, etags[1]

    url = server.add("/a", OTHER, etag=etags[0], truncate=(1, 60_000), before_response=change_file)
    sizes = []
    fetch(url, target, digest=DIGEST, progress=lambda done, total: sizes.append(done))
    assert target.read_bytes() == BODY
    assert sum(request.sent for request in server.requests if request.status == 200) == 260_000
    # With weak tags only the digest finds that the file is made of two versions.
    assert sizes.count(len(BODY)) == (2 if etags[0].startswith("W/") else 1)


def test_a_file_that_became_shorter_keeps_no_old_bytes(server, target):
    url = server.add("/a", BODY[:1000], etag='"two"')
    leave_partial(target, url, OTHER[:5000])
    fetch(url, target, digest=sha256(BODY[:1000]))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("received", "starts"), [(BODY, []), (BODY + OTHER, [None])])
def test_a_partial_file_of_the_known_size_or_more(server, target, received, starts):
    url = server.add("/a", BODY)
    leave_partial(target, url, received)
    fetch(url, target, digest=DIGEST, size=len(BODY))
    assert server.starts("/a") == starts


@pytest.mark.parametrize(
    ("received", "starts"), [(len(BODY), [200_000]), (300_000, [300_000, None])]
)
def test_a_partial_file_of_the_unknown_size_or_more(server, target, received, starts):
    """The server answers 416."""
    url = server.add("/a", BODY)
    leave_partial(target, url, (BODY + OTHER)[:received])
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"url": 1}', '{"url": "http://else/a"}'])
def test_a_partial_file_without_a_valid_record_is_deleted(server, target, record):
    url = server.add("/a", BODY)
    leave_partial(target, url, BODY[:1000])
    path = target.with_name("model.bin.part.json")
    path.unlink() if record is None else path.write_text(record)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None]


@pytest.mark.parametrize("received", [OTHER[:1000], OTHER])
def test_a_wrong_partial_file_is_downloaded_again(server, target, received):
    """Only a file that came in one response is kept as bad."""
    url = server.add("/a", BODY)
    leave_partial(target, url, received)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a")[-1] is None
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("statuses", "tries"), [([500] * 4, 5), ([503, 408, 429, 502], 5), ([500] * 5, 5)]
)
def test_temporary_errors_are_retried(server, target, statuses, tries):
    url = server.add("/a", BODY, statuses=list(statuses))
    if len(statuses) < 5:
        fetch(url, target, digest=DIGEST)
    else:
        with pytest.raises(FetchError, match=rf"^{url} .* answered 500 .*\(5 tries\)$"):
            fetch(url, target, digest=DIGEST)
    assert len(server.requests) == tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 206, 302, 304])
def test_permanent_errors_are_not_retried(server, target, status):
    url = server.add("/a", BODY, statuses=[status])
    with pytest.raises(FetchError, match=f"^{url} answered {status}"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1
    assert list_names(target) == [LOCK]


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [("7", 7, 7), ("900", 30, 30), ("soon", 0, 0.01), ("-1", 0, 0.01)],
)
def test_retry_after_is_respected(server, target, monkeypatch, retry_after, low, high):
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    url = server.add("/a", BODY, statuses=[429], headers={"Retry-After": retry_after})
    fetch(url, target, digest=DIGEST)
    assert low <= waited[0] <= high


def test_waits_grow_and_are_random(monkeypatch):
    monkeypatch.setattr(package, "BACKOFF", 0.5)
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    for tries in (1, 2, 3, 4, 9):
        for _ in range(20):
            package.wait_before_retry(tries)
        longest = min(0.5 * 2 ** (tries - 1), 8)
        assert all(longest / 2 <= seconds <= longest for seconds in waited[-20:])
        assert len(set(waited[-20:])) > 10


def test_tries_that_bring_many_bytes_do_not_count(server, target, monkeypatch):
    monkeypatch.setattr(package, "RESET_BYTES", 20_000)
    url = server.add("/a", BODY, truncate=(9, 20_000))
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 10


@pytest.mark.parametrize("ranges", ["yes", "ignored"])
def test_tries_that_bring_few_bytes_are_limited(server, target, ranges):
    url = server.add("/a", BODY, truncate=(99, 20_000), ranges=ranges)
    with pytest.raises(FetchError, match=r"of 200000 bytes|broke off"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 5
    assert not target.exists()


def test_a_truncated_body_without_a_length_is_downloaded_again(server, target):
    url = server.add("/a", BODY, framing="close", truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None, None]


def test_an_interrupted_process_leaves_its_bytes_to_be_resumed(server, target):
    def interrupt(done, total):
        if done >= 100_000:
            raise KeyboardInterrupt

    url = server.add("/a", BODY)
    with pytest.raises(KeyboardInterrupt):
        fetch(url, target, digest=DIGEST, progress=interrupt)
    part = target.with_name("model.bin.part").stat()
    assert part.st_size >= 100_000
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None, part.st_size]
    # The partial file was renamed, not copied: a copy would be incomplete for a while.
    assert target.stat().st_ino == part.st_ino


def test_the_record_of_a_partial_file_has_no_secrets(server, target):
    url = server.add("/a", BODY, truncate=(9, 1000), modified=MODIFIED)
    with pytest.raises(FetchError):
        fetch(f"{url}?key=t0ken", target, digest=DIGEST)
    record = json.loads(target.with_name("model.bin.part.json").read_text())
    assert record == {"url": url, "tag": '"one"'}
