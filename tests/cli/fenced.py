"""The fenced blocks of README.md and the documentation, the mark before each of them, and the schemas of summaries."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
OTHERS = {"set", "pip", "mkdocs", "ruff", "pytest", "python", "export", "dask", "srun", "pre-commit", "git", ".ci/run"}


@dataclass
class Block:
    """A fenced block.

    Attributes:
        mark: Text of the comment in the line before the block: ``file: NAME``, ``not run: REASON``, ...
        language: Language of the block.
        text: Content.
    """

    mark: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the block shows, or ""."""
        kind, _, name = self.mark.partition(": ")
        return name if kind == "file" else ""

    def commands(self) -> list[list[str]]:
        """Return the words of each graft command in a block of a shell."""
        found, variables = [], dict[str, str]()
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if equals and name.isidentifier():
                variables[name] = shlex.split(value)[0]
                continue
            for name, value in variables.items():
                line = line.replace(f"${name} ", f"{value} ")
            for part in re.split(r"&&|&$", line):
                words = shlex.split(part, comments=True)
                if words[:1] == ["torchrun"]:
                    words = ["graft", *words[words.index("graft") + 1 :]]
                if words[:2] == ["srun", "graft"]:
                    words = words[1:]
                if words[:1] == ["graft"]:
                    found.append(words[1:])
                else:
                    assert not words or words[0] in OTHERS, f"unknown program: {part}"
        return found


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, by its path in the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["mark"] or "", m["language"], m["text"]) for m in FENCE.finditer(text)]


def pages() -> list[str]:
    """Return the pages whose blocks are tested here: the README, and the documentation."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found if blocks(path.relative_to(ROOT).as_posix())]


def marked(page: str, mark: str) -> str:
    """Return the text of the one block with a mark."""
    (found,) = (block.text for block in blocks(page) if block.mark == mark)
    return found


def check_schema(name: str, folder: Path, changes: Sequence[dict[str, Any]]) -> None:
    """Check that a schema of the documentation admits the ``summary.json`` of a run, and none of its changes."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / f"docs/reference/{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, schema)
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**summary, **change}, schema)
