"""A training in a process of its own, as its argument says in JSON.

    python -m tests.zoo.training.train_script '{"folder": "run", "settings": {"epochs": 1}}'

With "serve" for an argument, it forks a process for each such line of standard input, as starting
Python takes too long: it prints the process's number, and "ended" when that has ended.
"""

import faulthandler
import json
import os
import signal
import sys
import time


def main(
    folder,
    settings,
    workers=0,
    distributed=None,
    watched=None,
    min_sharded_size=None,
    slow_process=None,
):
    """Trains, and prints how it ended: "done", or the error in a line.

    Args:
      folder, settings, workers: as of `fit`.
      distributed: (port, count, number) of one of several processes.
      watched: arguments of `Watched`; by default the digits are plain arrays.
      min_sharded_size: in place of what `zoo.training.devices` has.
      slow_process: the number of the process that makes the folders of states slowly.
    """
    faulthandler.register(signal.SIGUSR1)  # prints where all threads are
    if distributed is not None:
        import jax

        port, count, number = distributed
        jax.distributed.initialize(f"127.0.0.1:{port}", count, number, heartbeat_timeout_seconds=10)
    from tests.zoo.training.tiny import register_tiny, smooth_net
    from tests.zoo.training.watched import Watched
    from zoo import training
    from zoo.training import devices

    register_tiny()
    devices.MIN_SHARDED_SIZE = min_sharded_size or devices.MIN_SHARDED_SIZE
    data = "digits" if watched is None else Watched(**watched)
    is_slow = slow_process is not None and slow_process == distributed[2]
    delayed = delay_folders() if is_slow else None
    try:
        training.fit(smooth_net(), data, folder=folder, workers=workers, **settings)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    print("done" if delayed != [] else "no folder was delayed", flush=True)
    return 0


def delay_folders(seconds=0.2):
    """Delays this process's making of folders for states; returns a list of those that will be."""
    from zoo_pretrained.temporary import UNFINISHED

    makedirs, delayed = os.makedirs, []

    def delay(name, *args, **kwargs):
        if UNFINISHED in os.fspath(name):
            delayed.append(name)
            time.sleep(seconds)
        makedirs(name, *args, **kwargs)

    os.makedirs = delay
    return delayed


def serve():
    """Forks a process for each line; see above."""
    import albumentations  # noqa: F401
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import zoo.training  # noqa: F401
    from tests.zoo.training import tiny  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            return main(**json.loads(line))
        os.waitpid(child, 0)
        print("ended", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1] == "serve" else main(**json.loads(sys.argv[1])))
