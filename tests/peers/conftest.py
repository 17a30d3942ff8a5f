"""Fixtures of the tests that compare with peers."""

import pytest


@pytest.fixture(autouse=True)
def _one_thread(request):
    """PyTorch's threads wait for each other without rest, which takes minutes on a busy machine."""
    if request.node.get_closest_marker("peer") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
