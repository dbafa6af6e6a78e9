"""The command continues if its output has no reader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import sys
from graft.cli.streams import make_lasting
make_lasting()
for _ in range(10_000):
    print("x" * 100, flush=True)
print("to the end", file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_a_reader_that_goes_away() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{PRINTS}' | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == "to the end\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_closed_streams_do_not_end_in_a_file(tmp_path: Path) -> None:
    code = f"""
import os
from graft.cli.streams import make_lasting
make_lasting()
file = open({str(tmp_path / "kept")!r}, "w")
os.write(1, b"what a library prints")
print("what Python prints", flush=True)
file.write("kept")
"""
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        done = subprocess.run(["bash", "-c", f'{sys.executable} -c "$CODE" {closed}'], env={**os.environ, "CODE": code})
        assert done.returncode == 0 and (tmp_path / "kept").read_text() == "kept"


def test_a_terminal_without_all_characters() -> None:
    code = "from graft.cli.streams import make_lasting; make_lasting(); print('± 95 % … Å²')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "LANG": "C"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("\\xb1 95 %")
