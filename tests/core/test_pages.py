"""Every HTML page that graft writes comes from one frame, with one content-security policy."""

import re
from html.parser import HTMLParser
from pathlib import Path

from graft.io import page
from graft.report import hits

ROOT = Path(page.__file__).parents[2]
SOURCES = [path for folder in ("graft", "domains") for path in (ROOT / folder).rglob("*.py")]


def test_only_one_place_writes_pages() -> None:
    """A new page that is built elsewhere has no policy: it fails here."""
    assert len(SOURCES) > 100
    frame = re.compile(r"<!doctype|<html|<head\b|<body", re.IGNORECASE)
    assert [path.name for path in SOURCES if frame.search(path.read_text(encoding="utf-8"))] == ["page.py"]
    assert not [path for folder in ("graft", "domains", "configs") for path in (ROOT / folder).rglob("*.htm*")]


class _Parsed(HTMLParser):
    """Tags in order, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def policies(text: str) -> list[dict[str, list[str]]]:
    """The policies of a page; each must come before everything that it is about."""
    tags = _Parsed(text).tags
    metas = [i for i, (tag, about) in enumerate(tags) if tag == "meta" and "http-equiv" in about]
    assert all({tag for tag, _ in tags[:i]} <= {"html", "head", "meta"} for i in metas)
    contents = [tags[i][1]["content"] or "" for i in metas]
    return [{part.split()[0]: part.split()[1:] for part in each.split("; ")} for each in contents]


def refused(text: str) -> list[str]:
    """Elements that a browser would not load or run under the page's own policy."""
    (policy,) = policies(text)
    source = {"img": "img-src", "script": "script-src", "style": "style-src"}
    wrong = []
    for tag, about in _Parsed(text).tags:
        if tag in ("iframe", "object", "embed", "link", "base", "form", "audio", "video", "source"):
            wrong.append(tag)
        allowed = policy.get(source.get(tag, ""), policy["default-src"])
        if "src" in about and not (about["src"] or "").startswith("data:" if "data:" in allowed else "\0"):
            wrong.append(f"{tag} {about['src']}")
        if tag in ("script", "style") and "src" not in about and "'unsafe-inline'" not in allowed:
            wrong.append(tag)
        wrong += [f"{tag} {name}" for name in about if name.startswith("on")]
    return wrong


def test_the_policy() -> None:
    (policy,) = policies(page.render_page("a", []))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    for text in ("<img src='https://a.b/c.png'>", "<script src='c.js'></script>", "<link href='c.css'>"):
        assert refused(page.render_page("a", [text]))
    text = page.render_page("<b>&", ["<p>one</p>", "<p>two</p>"])
    assert "<title>&lt;b&gt;&amp;</title>" in text and "<p>one</p><p>two</p>" in text


def test_the_viewer_works_under_it() -> None:
    """The script is inline and uses nothing that the policy forbids: evaluation of text, workers, requests."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    from domains.molecules.view import view as turning

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)

    class Module:
        render = staticmethod(lambda items, legends: b"\x89PNG")
        render_html = staticmethod(turning)
        table_columns = staticmethod(lambda items: {"smiles": ["<CCO>"] * len(items)})

    text = hits.hits_page(Module, [hits.TopSample(mol, 1.0, "<CCO>", "round 1", 2)], "reward")  # type: ignore[arg-type]
    assert text.count("<canvas") == 1 and not refused(text)
    script = (ROOT / "domains/molecules/viewer.js").read_text(encoding="utf-8")
    assert script in text and not re.search(r"\beval\(|new Function|Worker|fetch\(|XMLHttp|import\(|blob:", script)
