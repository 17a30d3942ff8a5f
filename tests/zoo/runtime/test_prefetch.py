"""Items made by another thread: their order, errors, bound and end."""

import threading

import pytest

from zoo.runtime.prefetch import prefetch


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


@pytest.mark.parametrize("buffer_size", [1, 2, 9])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_items_in_their_order(count, buffer_size):
    assert list(prefetch(range(count), buffer_size)) == list(range(count))
    assert not threads()


def test_items_are_made_by_one_other_thread():
    made = list(prefetch(threading.get_ident() for _ in range(4)))
    assert len(set(made)) == 1
    assert made[0] != threading.get_ident()


def test_the_next_item_is_made_while_the_caller_has_one():
    begun = threading.Event()

    def items():
        yield 1
        begun.set()
        yield 2

    made = prefetch(items(), buffer_size=1)
    assert next(made) == 1
    assert begun.wait(10)
    assert list(made) == [2]


def test_no_more_than_buffer_size_items_are_held_ready():
    made, fourth = [], threading.Event()

    def items():
        for number in range(9):
            made.append(number)
            if number == 3:
                fourth.set()
            yield number

    given = prefetch(items(), buffer_size=2)
    next(given)
    assert not fourth.wait(0.2)
    assert made == [0, 1, 2]
    given.close()


def test_an_error_is_raised_in_place_of_its_item():
    def items():
        yield 1
        raise KeyError("broken")

    made = prefetch(items())
    assert next(made) == 1
    with pytest.raises(KeyError, match="broken"):
        next(made)
    assert not threads()


def test_a_caller_that_stops_early_ends_the_thread_and_the_generator():
    ended = []

    def items():
        try:
            yield from range(100)
        finally:
            ended.append(True)

    for item in (made := prefetch(items())):
        if item == 3:
            break
    made.close()
    assert ended == [True]
    assert not threads()


def test_buffer_size_is_checked_before_the_first_item():
    with pytest.raises(ValueError, match="buffer_size must be at least 1, got 0"):
        prefetch([], buffer_size=0)
