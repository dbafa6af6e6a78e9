"""If one of several processes is killed, the others end within a minute and print how to resume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from called import HERE

from graft.cli.messages import lost_process, user_message

GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:60048. This is typically caused by"
MINUTE = 60.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE)}


def test_what_a_lost_process_looks_like() -> None:
    for error in (RuntimeError(GLOO), torch.distributed.DistNetworkError("The client socket has timed out")):
        assert lost_process(error)
        sentence = user_message(error)
        assert sentence is not None and "--ckpt_path last" in sentence
    assert not lost_process(RuntimeError("shape mismatch")) and not lost_process(OSError("Broken pipe"))


def ranks(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(each) for each in found if b"graft" in Path(f"/proc/{each}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_killed_process(victim: str, small: list[str], folder: Path) -> None:
    several = ["--config", "trainer/ddp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    command = [sys.executable, "-m", "graft", "fit", *small, *several, "--data.draws", "4096", "--run_dir", "run"]
    log = folder / "log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=ENVIRONMENT) as first:
        try:
            while not list(folder.glob("run/rounds/0/chunk*")) and first.poll() is None:
                time.sleep(0.1)
            (second,) = ranks(first.pid)
            killed, left = (first.pid, second) if victim == "first" else (second, first.pid)
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()
            while alive(left) and time.monotonic() - began < MINUTE:
                first.poll()
                time.sleep(0.1)
            assert not alive(left)
        finally:
            for each in (first.pid, *ranks(first.pid)):
                os.kill(each, signal.SIGKILL) if alive(each) else None
    text = log.read_text()
    assert "Traceback" not in text and "another process of this run ended" in text
    again = subprocess.run([*command, "--ckpt_path", "last"], capture_output=True, text=True, env=ENVIRONMENT)
    assert again.returncode == 0, again.stderr
