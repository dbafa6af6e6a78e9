"""The folder of a run has one writer, also after a process dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graft import GraftError
from graft.runs import lock
from graft.runs.lock import lock_folder, release_locks_after

HOLD = f"""
import runpy, sys
from pathlib import Path
runpy.run_path({lock.__file__!r})["lock_folder"](Path(sys.argv[1]))  # the file alone, for its package imports torch
"""
WAIT = (
    HOLD
    + """
import time
print(1, flush=True)
time.sleep(100)
"""
)


def other(folder: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", WAIT, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "1\n"
    return child


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX's")
def test_another_process_holds_it(tmp_path: Path) -> None:
    with other(tmp_path) as child:
        with release_locks_after(), pytest.raises(GraftError, match="another process is writing the run"):
            lock_folder(tmp_path)
        os.kill(child.pid, signal.SIGKILL)  # the system lets go of it
        child.wait()
        with release_locks_after():
            lock_folder(tmp_path)
            lock_folder(tmp_path)  # again, by the same process
    assert not list(tmp_path.iterdir())


def test_it_is_let_go_of_after_the_run(tmp_path: Path) -> None:
    with release_locks_after():
        lock_folder(tmp_path)
        with release_locks_after():
            lock_folder(tmp_path)
        refused = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True)
        assert refused.returncode and "another process is writing" in refused.stderr
    assert not subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)]).returncode


def test_a_folder_that_was_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with release_locks_after():
        lock_folder(folder)
        folder.rmdir()
        folder.mkdir()
        lock_folder(folder)
        refused = subprocess.run([sys.executable, "-c", HOLD, str(folder)], capture_output=True, text=True)
        assert refused.returncode
