"""YAML is read as plain data: no key twice, no nested anchors, no depth or size that stalls the reader."""

import re
from pathlib import Path

import jsonargparse
import pytest

import graft
from graft import GraftError
from graft.io import yaml_files

MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 20))]
)


def nested(depth: int, width: int) -> str:
    """Return anchors that repeat the one before ``width`` times: width^depth values in a few lines."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "the key a twice, in lines 1 and 3"),
        ("a: 1\n'a': 2", "the key a twice"),
        ("1: a\n0x1: b", "twice"),
        ("yes: a\ntrue: b", "twice"),
        ("null: 1\n~: 2", "twice"),
        ("x: {y: [1, {k: 1, k: 2}]}", "the key x.y.1.k twice, in line 1"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", "the key b.<< twice, in lines 3 and 4"),
        ("m: {a: {b: 1}}\nm.a.b: 2", "the key m.a.b twice, in lines 1 and 2"),
        ("m.a: {b: 1}\nm: {a.b: 2}", "the key m.a.b twice"),
        ("m.a: 1\nm: 2", "the key m twice"),
        ("m: 2\nm.a: 1", "the key m twice"),
        (nested(30, 10), "more than 100,000 values"),
        (nested(60, 2), "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("x: &x 1\ny: [" + ", ".join(["*x"] * 1500) + "]", "more than 1,000 aliases"),
        ("a: &a [*a]", "an anchor that contains itself in line 1"),
        ("a: &a {b: {c: *a}}", "an anchor that contains itself"),
        ("[" * 500_000, "nest"),
        ("{a: " * 70 + "1" + "}" * 70, "nests 65 levels deep"),
        ("\n".join(" " * i + f"k{i}:" for i in range(200)), "nests 65 levels deep in line 65"),
        ("- " * 5000 + "a", "nests 65 levels deep"),
        ("a: " + "1" * 5000, "a number of 5,000 characters"),
        ("a: 1" + ":1" * 100_000, "a number of"),
        ("? 1" + ":1" * 3000 + "\n: 2", "a number of"),
        ("a: " + "x" * 2_000_000, "2,000,003 characters"),
        ("a: 2001-99-99", "not YAML"),
        ("2001-99-99: 1", "not YAML"),
        ("a: !!python/object/apply:os.system ['x']", "not YAML"),
        ("? [a, b]\n: 1", "not YAML"),
        ("? !!set x\n: 1", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("a: [", "not YAML"),
    ],
    ids=range(33),
)
def test_refused_at_once(text: str, words: str) -> None:
    with pytest.raises(GraftError, match=r"^here ") as error:
        yaml_files.parse_yaml(text, "here")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}", {"a": {"x": 1}, "b": {"x": 2}}),  # a merge may be overridden
        ("a: &a [1, 2]\nb: *a\nc: *a", {"a": [1, 2], "b": [1, 2], "c": [1, 2]}),
        ("m.a: 1\nm.b: 2\nn: {a.b: 1}", {"m.a": 1, "m.b": 2, "n": {"a.b": 1}}),
        ("{1: a, '1': b}", {1: "a", "1": "b"}),
        ("- {a: 1}\n- {a: 2}", [{"a": 1}, {"a": 2}]),
        ("", None),
    ],
)
def test_taken(text: str, value: object) -> None:
    assert yaml_files.parse_yaml(text, "here") == value


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")  # with a byte order mark
    assert yaml_files.read_yaml(path) == {"a": 1}
    path.write_bytes(b"a: \xff")
    for broken in (path, tmp_path / "none.yaml", tmp_path):
        with pytest.raises(GraftError, match="not a YAML file"):
            yaml_files.read_yaml(broken)
    if Path("/dev/zero").exists():
        with pytest.raises(GraftError, match="characters"):
            yaml_files.read_yaml(Path("/dev/zero"))


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", nested(30, 10), "{a: &a [*a]}"])
def test_parsers_of_command_lines(text: str, tmp_path: Path) -> None:
    """Inline values and files that a parser reads by itself."""
    yaml_files.check_yaml_in_parser()
    yaml_files.check_yaml_in_parser()  # twice is once
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--a", type=dict)
    (tmp_path / "mine.yaml").write_text("a:\n" + "\n".join(f"  {line}" for line in text.splitlines()))
    for args in (["--a", text], ["--config", str(tmp_path / "mine.yaml")]):
        with pytest.raises(GraftError):
            parser.parse_args(args)
    assert parser.parse_args(["--a", "{a: 1, b: 1.0e-3}"]).a == {"a": 1, "b": 1e-3}


def test_one_reader() -> None:
    """No other code of the packages reads YAML."""
    root = Path(graft.__file__).parent.parent
    sources = [path for name in ("graft", "domains") for path in (root / name).rglob("*.py")]
    others = [path for path in sources if re.search(r"(?<!_)yaml\.(\w*load\w*|compose|parse)\b", path.read_text())]
    assert len(sources) > 100 and [path.name for path in others] == ["yaml_files.py"]
