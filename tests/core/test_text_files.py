"""Text is read with or without a byte-order mark, and its lines end at line feeds alone, wherever it is read."""

import ast
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import graft
from domains.images import scored_files
from domains.images.text import prompts
from domains.molecules import records
from graft import GraftError
from graft.commands.compare import rows
from graft.io import text
from graft.io.json_files import read_json
from graft.pretrained import parsing
from graft.runs.folders import first_difference
from graft.runs.logger import read_metrics

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"  # where str.splitlines splits, too


def test_lines() -> None:
    assert text.split_lines(f"a{SEPARATORS}b\nc\n\nd") == [f"a{SEPARATORS}b", "c", "", "d"]
    assert text.split_lines("") == [] and text.split_lines("\n") == [""] and text.split_lines("a\n") == ["a"]


def test_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xef\xbb\xbfd")
    assert text.read_utf8(tmp_path / "a") == "a\nb\nc\n\ufeffd"  # a mark is a mark at the start alone


@pytest.mark.parametrize("content", ["{", "", "[" * 3000, b"\xff\xfe{}"], ids=["cut", "empty", "deep", "UTF-16"])
def test_what_is_no_json(content: "str | bytes", tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(GraftError, match=r"a\.json is not a JSON file") as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "prompts.txt": ("a dog\na cat\n", lambda path: prompts.read(str(path))),
    "prompts.csv": ("prompt,tag\na dog,x\n", lambda path: prompts.read(str(path))),
    "prompts.tsv": ("prompt\ttag\na dog\tx\n", lambda path: prompts.read(str(path))),
    "prompts.json": ('["a dog"]', lambda path: prompts.read(str(path))),
    "prompts.jsonl": ('{"prompt": "a dog"}\n', lambda path: prompts.read(str(path))),
    "mols.smi": ("CCO ethanol\n", lambda path: [each.properties for each in records.KINDS[".smi"](path)]),
    "mols.xyz": ("1\nE=1\nC 0 0 0\n", lambda path: [each.properties for each in records.KINDS[".xyz"](path)]),
    "mols.csv": ("smiles,a\nCCO,1\n", lambda path: [each.properties for each in records.KINDS[".csv"](path)]),
    "index.csv": (
        "file,rating\nnone.png,0.5\n",
        lambda path: scored_files.read_scored(path, "rating", None, None).left_out,
    ),
    "config.yaml": ("a: {b: 1}\n", lambda path: (parsing.read_config(str(path)), first_difference(path, "a: {b: 1}"))),
    "a.json": ('{"a": 1}', read_json),
    "metrics.csv": ("step,a\n1,0.5\n", read_metrics),
    "compare.csv": ("method,seed\na,0\n", rows.read_rows),
}


@pytest.mark.parametrize("name", READERS)
def test_mark_of_byte_order(name: str, tmp_path: Path) -> None:
    content, read = READERS[name]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    plain = read(path)
    path.write_text(content, encoding="utf-8-sig")
    assert plain and read(path) == plain


@pytest.mark.parametrize("separator", SEPARATORS)
def test_separators_within_a_line(separator: str, tmp_path: Path) -> None:
    """JSON strings, prompts, names and cells may hold what other programs take for the end of a line."""
    caption = f"a dog{separator}with a hat"
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "{caption}"}}\n{{"prompt": "a cat"}}\n', encoding="utf-8")
    (tmp_path / "a.txt").write_text(f"{caption}\na cat\n", encoding="utf-8")
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt"], [caption], ["a cat"]])
    for name in ("a.jsonl", "a.txt", "a.csv"):
        assert [each.text for each in prompts.read(str(tmp_path / name))] == [caption, "a cat"], name
    (tmp_path / "a.smi").write_text(f"CCO {caption}\nC\n", encoding="utf-8")
    assert [each.properties for each in records.KINDS[".smi"](tmp_path / "a.smi")] == [{"name": caption}, {}]


def test_half_a_character_is_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["a dog \\ud83d"]')
    with pytest.raises(GraftError, match="half of a character"):
        prompts.read(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('["a dog \\ud83d\\udc36"]')
    assert prompts.read(str(tmp_path / "a.json"))[0].text == "a dog \U0001f436"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the packages, with where it stands."""
    package = Path(graft.__file__).parent
    for path in (*package.rglob("*.py"), *(package.parent / "domains").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(package.parent)}:{node.lineno}", node


def test_every_reader_of_text_drops_the_mark() -> None:
    """`Path.read_text`, and `open` for reading text, name an encoding that knows the mark."""
    wrong = []
    for where, call in calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {each.arg: getattr(each.value, "value", None) for each in call.keywords}
        modes = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        writes = any(set(str(mode)) & set("wab+") for mode in [*modes, given.get("mode", "")])
        if (name == "read_text" or (name == "open" and "encoding" in given and not writes)) and not (
            given.get("encoding") == "utf-8-sig" or "viewer" in where or "view.py" in where
        ):
            wrong.append(where)
    assert not wrong
