"""The file of ratings: every rating survives a kill at any byte, and undo works after a restart."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graft import GraftError
from graft.rating import SCALES, RatingsFile

KEEP, STARS = SCALES["keep"], SCALES["stars"]


def test_it_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.jsonl"
    first = RatingsFile(path, STARS)
    first.rate("a", 5)
    first.rate("b", 1)
    first.rate("a", 2)
    first.rate("b", None)
    again = RatingsFile(path, STARS)
    assert again.values == first.values == {"a": 2}
    assert [again.undo() for _ in range(5)] == ["b", "a", "b", "a", None]
    assert RatingsFile(path, STARS).values == {} and RatingsFile(path, STARS).undo() is None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"graft": "ratings", "format": 1, "scale": "stars"} and len(lines) == 9


def test_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = RatingsFile(path, KEEP)
    whole.rate("a", 1)
    whole.rate("b", 0)
    data = path.read_bytes()
    ends = [i for i, byte in enumerate(data) if byte == 10]
    for size in range(len(data)):
        path.write_bytes(data[:size])
        found = RatingsFile(path, KEEP)
        lines = sum(end <= size for end in ends)  # a line without its end is whole too
        assert found.values == dict([("a", 1), ("b", 0)][: max(0, lines - 1)])
        found.rate("c", 1)
        assert RatingsFile(path, KEEP).values == found.values | {"c": 1}


@pytest.mark.slow
def test_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    program = (
        "import sys\nfrom graft.rating import SCALES, RatingsFile\n"
        "file = RatingsFile(sys.argv[1], SCALES['keep'])\n"
        "for i in range(10**6):\n    file.rate(f'd{i}', i % 2)\n    print(i, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    child.communicate()
    values = RatingsFile(path, KEEP).values
    assert lines[-1] == "19\n" and all(values[f"d{i}"] == i % 2 for i in range(20))


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    RatingsFile(path, KEEP).rate("a", 1)
    with pytest.raises(GraftError, match="on the scale 'keep', not 'stars'"):
        RatingsFile(path, STARS)
    with path.open("a") as file:
        file.write('{"draw": "b", "rating": 7}\n')
    with pytest.raises(GraftError, match="a line is no rating"):
        RatingsFile(path, KEEP)
    for text in (
        "smiles,rating\nCC,1\n",
        "[1]\n",
        '{"a": 1}\n',
        '{"graft": "ratings", "format": 2, "scale": "keep"}\n',
    ):
        path.write_text(text)
        with pytest.raises(GraftError, match="choose another file"):
            RatingsFile(path, KEEP)
        assert path.read_text() == text
