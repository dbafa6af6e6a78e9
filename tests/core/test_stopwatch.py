"""The seconds of a run are those of all its sessions, also of killed ones."""

import json
import os
import signal
import time
import warnings
from pathlib import Path

import pytest

from graft.runs import stopwatch
from graft.runs.stopwatch import NAME, Stopwatch, read_seconds


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1e6

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    return made


def test_sessions_add_up(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Stopwatch() as first:
        clock.now += 3  # before the folder is known
        first.keep(tmp_path)
        clock.now += 100
        raise RuntimeError
    assert read_seconds(tmp_path) == 103
    clock.now -= 5000  # another process: another start of its clock
    with Stopwatch() as second:
        second.keep(tmp_path)
        clock.now += 20.25
        assert second.seconds == 123.25
        second.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_session_counts(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies where no code of its own runs any more."""
    monkeypatch.setattr(stopwatch, "INTERVAL", 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
        child = os.fork()
    if child == 0:
        try:
            Stopwatch().keep(tmp_path)
            clock.now += 7.5
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        for _ in range(6000):
            if read_seconds(tmp_path) == 7.5:
                break
            time.sleep(0.01)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with Stopwatch() as again:
        again.keep(tmp_path)
        clock.now += 1
        assert again.seconds == 8.5


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"seconds": null}', '{"seconds": NaN}', '{"seconds": -1}', "[" * 9999]
)
def test_a_damaged_count_is_reported_and_stops_nothing(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_text(content)
    assert read_seconds(tmp_path) == 0
    message = capsys.readouterr().out
    assert f"{NAME} is damaged" in message and len(message.splitlines()) == 1


def test_a_shorter_number_leaves_no_digits_behind(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"seconds": 123456789.123}))
    (tmp_path / "summary.json").write_text("{}")  # of a finished run, which is begun again
    with Stopwatch() as watch:
        watch.keep(tmp_path)
        clock.now += 1
    (tmp_path / "summary.json").unlink()
    assert read_seconds(tmp_path) == 1


def test_a_link_is_not_followed(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "foreign")
    with Stopwatch() as watch:
        watch.keep(tmp_path / "run")
    assert (tmp_path / "foreign").read_text() == "mine"
