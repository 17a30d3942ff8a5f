"""The batcher: sizes and deadlines of batches, its limit, errors, and its end."""

import asyncio
import threading
import time

import numpy as np
import pytest

from zoo.serve.batching import Batcher, ClosedError, QueueFullError

FOREVER = 60.0


class Work:
    """What a batcher computes: twice each photo; it notes the batches, and can be held up."""

    def __init__(self):
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, x):
        self.batches.append([int(value) for value in x[:, 0]])
        assert self.go_on.wait(10)
        if -1 in x:
            raise ArithmeticError("minus one")
        return 2 * x


def run(test, work=None, max_batch=4, max_wait=FOREVER, max_in_hand=100):
    """Runs `test(batcher, work)` while a batcher is started; → what it returns."""

    async def main():
        used = work or Work()
        batcher = Batcher(used, max_batch=max_batch, max_wait=max_wait, max_in_hand=max_in_hand)
        batcher.start()
        try:
            return await test(batcher, used)
        finally:
            await batcher.close()
            assert batcher.in_hand == 0

    return asyncio.run(asyncio.wait_for(main(), 20))


async def compute(batcher, value):
    with batcher.admit() as admission:
        return (await admission.compute(np.array([value])))[0]


def test_a_photo_alone_does_not_wait():
    async def test(batcher, work):
        assert await compute(batcher, 3) == 6
        assert work.batches == [[3]]

    run(test)


def test_a_photo_waits_for_one_that_is_coming():
    async def test(batcher, work):
        with batcher.admit() as coming:
            first = asyncio.create_task(compute(batcher, 1))
            await asyncio.sleep(0.05)
            assert work.batches == []
            assert await coming.compute(np.array([2])) == [4]
        assert await first == 2
        assert work.batches == [[1, 2]]

    run(test)


def test_a_photo_that_is_given_up_is_not_waited_for():
    async def test(batcher, work):
        with batcher.admit(2):
            first = asyncio.create_task(compute(batcher, 1))
            await asyncio.sleep(0.01)
        assert await first == 2

    run(test)


def test_a_photo_waits_until_its_deadline():
    async def test(batcher, work):
        with batcher.admit():
            start = time.perf_counter()
            assert await compute(batcher, 1) == 2
            assert 0.09 < time.perf_counter() - start < 5

    run(test, max_wait=0.1)


def test_no_batch_is_larger_than_allowed():
    async def test(batcher, work):
        with batcher.admit():
            tasks = [asyncio.create_task(compute(batcher, value)) for value in range(9)]
            await asyncio.wait(tasks[:8])
            assert work.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert [await task for task in tasks] == list(range(0, 18, 2))

    run(test)


def test_while_a_batch_is_computed_the_next_one_fills():
    async def test(batcher, work):
        work.go_on.clear()
        tasks = [asyncio.create_task(compute(batcher, 0))]
        while not work.batches:
            await asyncio.sleep(0.001)
        for value in range(1, 4):
            tasks.append(asyncio.create_task(compute(batcher, value)))
            await asyncio.sleep(0.01)
        work.go_on.set()
        assert [await task for task in tasks] == [0, 2, 4, 6]
        assert work.batches == [[0], [1, 2, 3]]

    run(test)


def test_a_full_queue_refuses():
    async def test(batcher, work):
        with batcher.admit(2) as admission:
            admission.extend(1)
            with pytest.raises(QueueFullError, match="3 photos"):
                batcher.admit()
            with pytest.raises(QueueFullError):
                admission.extend(1)
            assert batcher.in_hand == 3
        with batcher.admit(3), pytest.raises(QueueFullError):
            await compute(batcher, 1)
        assert await compute(batcher, 1) == 2

    run(test, max_in_hand=3)


def test_only_the_photo_that_fails_fails():
    async def test(batcher, work):
        with batcher.admit():
            tasks = [asyncio.create_task(compute(batcher, value)) for value in (1, -1, 2, 3)]
            done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [done[0], *done[2:]] == [2, 4, 6]
        assert isinstance(done[1], ArithmeticError)
        assert work.batches[0] == [1, -1, 2, 3]
        assert await compute(batcher, 5) == 10

    run(test)


def test_too_few_rows_are_an_error():
    async def test(batcher, work):
        with pytest.raises(ValueError, match="expected 1 rows"):
            await compute(batcher, 1)

    run(test, work=lambda x: x[1:])


def test_a_cancelled_request_disturbs_no_other():
    async def test(batcher, work):
        with batcher.admit():
            tasks = [asyncio.create_task(compute(batcher, value)) for value in range(3)]
            await asyncio.sleep(0.01)
            tasks[1].cancel()
        assert await tasks[0] == 0
        assert await tasks[2] == 4

    run(test)


def test_closing_finishes_what_was_admitted():
    async def test(batcher, work):
        work.go_on.clear()
        coming = batcher.admit()
        tasks = [asyncio.create_task(compute(batcher, value)) for value in range(6)]
        while not work.batches:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(ClosedError):
            batcher.admit()
        work.go_on.set()
        await asyncio.sleep(0.05)
        assert not closing.done()
        with coming:
            assert await coming.compute(np.array([7])) == [14]
        await closing
        assert [await task for task in tasks] == list(range(0, 12, 2))

    run(test)
