"""Fixtures of all tests."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads each would only wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    torch.set_num_threads(1)


FOLDERS = {
    "images": ("diffusers", "sklearn"),
    "text_to_image": ("diffusers>=0.42", "transformers", "accelerate", "peft"),
}
"""Packages of extras that all tests of a folder need."""


def missing(packages: "tuple[str, ...]") -> list[str]:
    """Return the packages that are not installed, or are older than a least version as in ``diffusers>=0.42``."""
    return [name for name in packages if not installed(*name.partition(">=")[::2])]


def installed(name: str, least: str) -> bool:
    if importlib.util.find_spec(name) is None:
        return False
    return not least or Version(importlib.metadata.version(name)) >= Version(least)


def pytest_ignore_collect(collection_path: Path) -> "bool | None":
    """Leave out the folders of domains whose packages are missing."""
    folder = collection_path.parent
    if folder.parent == Path(__file__).parent and missing(FOLDERS.get(folder.name, ())):
        return True
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a package of an extra which is missing: ``pytest.mark.needs("peft")``."""
    for mark in item.iter_markers("needs"):
        if names := missing(mark.args):
            pytest.skip(f"needs {', '.join(names)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, whose fixtures are then made once; workers that finish take files of the others."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler.worksteal import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
