"""Fixtures of all tests."""

import os
from typing import Any

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads each would only wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, whose fixtures are then made once; workers that finish take files of the others."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler.worksteal import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
