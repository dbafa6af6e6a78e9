"""The words that `docs/glossary.md` rules out stand nowhere in names, messages, documents and tests."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
BANNED = re.compile(
    r"(?<![\w.`/-])(laws?|told|nobody|(?:every|some|any)(?:body|one)|whoever|anew|likewise|besides?|whose turn"
    r"|what is what|spoilt|in the place of|(?:go|goes|went) on)(?![\w`])",
    re.IGNORECASE,
)

NAMES = {"law", "laws", "told", "said", "nobody", "everybody", "everyone", "anew", "likewise", "beside", "besides"} | {
    "ask",
    "asked",
    "asks",
    "anyhow",
    "somebody",
    "spoilt",
    "whoever",
}


def names(path: Path) -> list[str]:
    """Return the names of a Python file that have a banned word, with their lines."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str) and NAMES & set(CAPITAL.sub("_", name).lower().split("_")):
                found[f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}"] = None
    return list(found)


def words(path: Path) -> list[str]:
    """Return the banned words in the prose of a file, with their lines."""
    text = path.read_text(encoding="utf-8")
    pieces = [(1, text)]
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        pieces = [(t.start[0], t.string) for t in tokens if t.type in (tokenize.COMMENT, tokenize.STRING)]
    found = []
    for line, piece in pieces:
        for match in BANNED.finditer(piece):
            found.append(f"{path.relative_to(ROOT)}:{line + piece[: match.start()].count(chr(10))}: {match[0]}")
    return found


CODE = ["graft/**/*.py", "domains/**/*.py", "tests/**/*.py"]
PATTERNS = [*CODE, "configs/**/*.yaml", "*.md", "docs/**/*.md", "domains/**/*.md", "tests/**/*.md"]
HERE = (Path(__file__), ROOT / "docs/glossary.md")  # these two list the words


@pytest.mark.parametrize("pattern", PATTERNS)
def test_banned_words(pattern: str) -> None:
    files = [path for path in sorted(ROOT.glob(pattern)) if path not in HERE]
    assert files
    found = [each for path in files for each in words(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern", CODE)
def test_banned_names(pattern: str) -> None:
    found = [each for path in sorted(ROOT.glob(pattern)) for each in names(path)]
    assert not found, "\n".join(found)
