"""Downloads that break off, and go on where they ended."""

import json

import pytest

from tests.pretrained.fetch.fetching import BODY, DIGEST, LOCK, OTHER, leave, names, sha256
from zoo_pretrained import fetch as package
from zoo_pretrained.fetch import FetchError, fetch

pytestmark = pytest.mark.usefixtures("plain")

MODIFIED = "Tue, 15 Nov 1994 12:45:26 GMT"


@pytest.mark.parametrize("fault", ["truncate", "reset", "stall"])
def test_a_download_goes_on_where_it_broke_off(server, target, monkeypatch, fault):
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    url = server.add("/a", BODY, **{fault: (2, 60_000)})
    fetch(url, target, digest=DIGEST)
    assert target.read_bytes() == BODY
    first, second, third = server.starts("/a")
    assert first is None
    # A reset may lose what was under way.
    assert second == 60_000 if fault != "reset" else 0 <= (second or 0) <= 60_000
    assert third == 120_000 if fault != "reset" else (third or 0) <= 120_000
    assert names(target) == [LOCK, "model.bin"]


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"one"', MODIFIED, '"one"'),
        ('W/"one"', MODIFIED, None),
        (None, MODIFIED, MODIFIED),
        (None, None, None),
    ],
)
def test_a_range_is_asked_for_on_condition_of_the_version(
    server, target, etag, modified, condition
):
    url = server.add("/a", BODY, etag=etag, modified=modified)
    leave(target, url, BODY[:1000], tag=etag or modified)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [1000]
    assert server.requests[0].headers.get("if-range") == condition
    assert server.requests[0].sent == len(BODY) - 1000


@pytest.mark.parametrize(
    ("ranges", "starts"), [("ignored", [None, 60_000]), ("wrong", [None, 60_000, None])]
)
def test_ranges_that_are_not_kept(server, target, ranges, starts):
    url = server.add("/a", BODY, ranges=ranges, truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts


@pytest.mark.parametrize("etags", [('"one"', '"two"'), ('W/"one"', 'W/"two"')])
def test_what_has_changed_meanwhile_is_begun_anew(server, target, etags):
    def turn(file):
        if server.requests[1:]:
            file.body, file.etag = BODY, etags[1]

    url = server.add("/a", OTHER, etag=etags[0], truncate=(1, 60_000), turn=turn)
    told = []
    fetch(url, target, digest=DIGEST, progress=lambda *now: told.append(now[0]))
    assert target.read_bytes() == BODY
    assert sum(request.sent for request in server.requests if request.status == 200) == 260_000
    # Weak tags bind no server, so that the digest finds what was put together of two versions.
    assert told.count(len(BODY)) == (2 if etags[0].startswith("W/") else 1)


def test_what_has_become_shorter_keeps_no_tail(server, target):
    url = server.add("/a", BODY[:1000], etag='"two"')
    leave(target, url, OTHER[:5000])
    fetch(url, target, digest=sha256(BODY[:1000]))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("there", "starts"), [(BODY, []), (BODY + OTHER, [None])])
def test_a_part_that_is_whole_or_more_where_the_size_is_known(server, target, there, starts):
    url = server.add("/a", BODY)
    leave(target, url, there)
    fetch(url, target, digest=DIGEST, size=len(BODY))
    assert server.starts("/a") == starts


@pytest.mark.parametrize(("there", "starts"), [(len(BODY), [200_000]), (300_000, [300_000, None])])
def test_a_range_behind_the_end(server, target, there, starts):
    """416: the part is whole, or more than that."""
    url = server.add("/a", BODY)
    leave(target, url, (BODY + OTHER)[:there])
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == starts
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", [None, "", "[]", "{}", '{"url": 1}', '{"url": "http://else/a"}'])
def test_a_part_of_unknown_origin_is_dropped(server, target, note):
    url = server.add("/a", BODY)
    leave(target, url, BODY[:1000])
    path = target.with_name("model.bin.part.json")
    path.unlink() if note is None else path.write_text(note)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None]


@pytest.mark.parametrize("there", [OTHER[:1000], OTHER])
def test_a_bad_part_is_no_bad_file(server, target, there):
    """Only what came in one piece is held against the server."""
    url = server.add("/a", BODY)
    leave(target, url, there)
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a")[-1] is None
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("statuses", "tries"), [([500] * 4, 5), ([503, 408, 429, 502], 5), ([500] * 5, 5)]
)
def test_answers_that_may_pass(server, target, statuses, tries):
    url = server.add("/a", BODY, statuses=list(statuses))
    if len(statuses) < 5:
        fetch(url, target, digest=DIGEST)
    else:
        with pytest.raises(FetchError, match=rf"^{url} .* answered 500 .*\(5 tries\)$"):
            fetch(url, target, digest=DIGEST)
    assert len(server.requests) == tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 206, 302, 304])
def test_answers_that_do_not_pass(server, target, status):
    url = server.add("/a", BODY, statuses=[status])
    with pytest.raises(FetchError, match=f"^{url} answered {status}"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 1
    assert names(target) == [LOCK]


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [("7", 7, 7), ("900", 30, 30), ("soon", 0, 0.01), ("-1", 0, 0.01)],
)
def test_a_server_may_ask_to_wait(server, target, monkeypatch, wish, low, high):
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    url = server.add("/a", BODY, statuses=[429], headers={"Retry-After": wish})
    fetch(url, target, digest=DIGEST)
    assert low <= waited[0] <= high


def test_waiting_grows_and_is_spread(monkeypatch):
    monkeypatch.setattr(package, "BACKOFF", 0.5)
    waited = []
    monkeypatch.setattr(package.time, "sleep", waited.append)
    for tries in (1, 2, 3, 4, 9):
        for _ in range(20):
            package.pause(tries)
        longest = min(0.5 * 2 ** (tries - 1), 8)
        assert all(longest / 2 <= seconds <= longest for seconds in waited[-20:])
        assert len(set(waited[-20:])) > 10


def test_tries_that_bring_much_do_not_count(server, target, monkeypatch):
    monkeypatch.setattr(package, "STRIDE", 20_000)
    url = server.add("/a", BODY, truncate=(9, 20_000))
    fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 10


@pytest.mark.parametrize("ranges", ["yes", "ignored"])
def test_tries_that_bring_little_come_to_an_end(server, target, ranges):
    url = server.add("/a", BODY, truncate=(99, 20_000), ranges=ranges)
    with pytest.raises(FetchError, match=r"of 200000 bytes|broke off"):
        fetch(url, target, digest=DIGEST)
    assert len(server.requests) == 5
    assert not target.exists()


def test_a_body_that_ends_too_early_unnoticed(server, target):
    url = server.add("/a", BODY, framing="close", truncate=(1, 60_000))
    fetch(url, target, digest=DIGEST)
    assert server.starts("/a") == [None, None]


def test_an_interrupt_keeps_what_has_come(server, target):
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
    # The file itself was renamed: a copy would for a while be there in part.
    assert target.stat().st_ino == part.st_ino


def test_the_note_beside_a_part(server, target):
    url = server.add("/a", BODY, truncate=(9, 1000), modified=MODIFIED)
    with pytest.raises(FetchError):
        fetch(f"{url}?key=t0ken", target, digest=DIGEST)
    note = json.loads(target.with_name("model.bin.part.json").read_text())
    assert note == {"url": url, "tag": '"one"'}
