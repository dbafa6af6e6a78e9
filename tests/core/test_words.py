"""The words that `docs/glossary.md` rules out stand nowhere in code, messages and documents."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = re.compile(
    r"(?<![\w.`/-])(laws?|told|nobody|everybody|anew|likewise|besides?|whose turn|what is what)(?![\w`])", re.IGNORECASE
)


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


PATTERNS = ["graft/**/*.py", "domains/**/*.py", "configs/**/*.yaml", "*.md", "domains/**/*.md"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_banned_words(pattern: str) -> None:
    files = [path for path in sorted(ROOT.glob(pattern))]
    assert files
    found = [each for path in files for each in words(path)]
    assert not found, "\n".join(found)
