"""The digits as images that are read one by one, with something that happens on the way."""

import itertools
import os
import resource
import signal
import time

import jax

from zoo.data.digits import load_digits

SIGNALS = {"term": signal.SIGTERM, "interrupt": signal.SIGINT, "kill": signal.SIGKILL}


class Watched:
    """Scikit-learn's digits, as an indexable data set.

    Args:
      at: how many images are read before something happens.
      events: what happens, each `pause` seconds after the other: "term" and "interrupt" send this
        process the signal, "kill" kills it, "fail" raises an error, and a number makes that the
        largest size of files, in bytes, as if the disk were full.
      unreadable: so many images are damaged.
      process: of several processes, the number of the one where this is so.
    """

    def __init__(self, at=0, events=(), unreadable=0, process=0, pause=0.5):
        digits = load_digits()
        self.images, self.targets, self.classes = digits.images, digits.labels, digits.classes
        self.at, self.events, self.unreadable, self.process = at, events, unreadable, process
        self.count, self.pause = itertools.count(1), pause

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if jax.process_index() == self.process:
            if next(self.count) == self.at:
                for event in self.events:
                    self._happen(event)
            if index < self.unreadable:
                raise OSError("damaged")
        return self.images[index], int(self.targets[index])

    def _happen(self, event):
        if event in SIGNALS:
            os.kill(os.getpid(), SIGNALS[event])
        elif event == "fail":
            raise RuntimeError("the data set fails")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (event, resource.RLIM_INFINITY))
        time.sleep(self.pause)
