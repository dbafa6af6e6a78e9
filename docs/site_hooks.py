"""Hooks of mkdocs: pages from elsewhere in the repository, links between them, and tables made from the code.

A page keeps its path in the repository, but for the prefix ``docs/``. Its links are those of the repository, so that
they also work where the files are read without the site.
"""

import importlib
import inspect
import json
import posixpath
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from docstring_parser.google import parse as parse_google

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `domains` may not be installed

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
FILE = re.compile(r"<!-- file: (\S+) -->\n```(\w+)$", re.MULTILINE)
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "domains/*/README.md",
    "domains/images/text/README.md",
    "domains/**/reference/CARD.md",
    "tests/benchmarks/*.md",
]
NOTEBOOKS = ["domains/*/examples/*.ipynb", "docs/examples/*.ipynb"]
KINDS = {  # sections of the page of classes: modules, and the base class of what is listed
    "Acceptance rules": (["graft.accept"], "graft.accept.AcceptanceRule"),
    "Filters": (["graft.filters", "domains.molecules.filters"], "graft.filters.Filter"),
    "Objectives": (["graft.objectives"], "graft.objectives.Objective"),
    "Processes": (["graft.process"], "graft.process.Process"),
    "Schedules": (["graft.process"], "graft.process.Schedule"),
    "Projections": (["graft.process"], "graft.process.Projection"),
    "Solvers": (["graft.solvers"], "graft.solvers.Solver"),
    "Correctors of noise": (["graft.network"], "graft.network.NoiseCorrector"),
    "Rewards": (["graft.reward", "domains.molecules.rewards", "domains.layouts.rewards"], "graft.reward.Reward"),
    "Rewards of pictures": (["domains.images.rewards"], "graft.reward.Reward"),
}
MODELS = {"Molecules": "domains.molecules", "Layouts": "domains.layouts", "Images": "domains.images"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and the files that links of pages name."""
    from mkdocs.structure.files import File

    for path in sorted(path for pattern in NOTEBOOKS for path in ROOT.glob(pattern)):
        name = page_of(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, name, content=notebook(path)))
    sources = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for path in sources:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in [*sources, *(ROOT / "docs").rglob("*.md")]:
        for target in targets(path.read_text(encoding="utf-8")):
            linked = (path.parent / target.partition("#")[0]).resolve()
            inside = linked.is_relative_to(ROOT) and not linked.is_relative_to(ROOT / "docs")
            name = linked.relative_to(ROOT).as_posix() if inside else ""
            if inside and linked.is_file() and linked.suffix != ".md" and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(linked)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the text with the links of the site and the generated tables."""
    name = page.file.src_uri
    home = name if page.file.generated_by and not name.startswith("examples/") else f"docs/{name}"
    markdown = FILE.sub(r'```\2 title="\1"', markdown)  # a reader of the site sees no comments
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda m: m[1] + moved(m[2], home, name) + m[3], part) for part in parts[::2]]
    text = "".join(parts)
    for kind, make in GENERATED.items():
        mark = f"<!-- generated: {kind} -->"
        if mark in text:
            text = text.replace(mark, make())
    return text


def on_env(env: Any, config: Any, files: Any) -> Any:
    """Remove the scripts that the theme would fetch from a server."""
    config.extra["polyfills"] = []
    config.extra_javascript[:] = [each for each in config.extra_javascript if not str(each).startswith("http")]
    return env


def targets(markdown: str) -> list[str]:
    """Return the targets of links within the repository."""
    prose = "".join(FENCE.split(markdown)[::2])
    return [m[2] for m in LINK.finditer(prose) if not re.match(r"[a-z]+:|#", m[2])]


def moved(target: str, home: str, name: str) -> str:
    """Return a link of the file ``home`` of the repository as a link of the page ``name``."""
    if re.match(r"[a-z]+:|#", target):
        return target
    path, mark, anchor = target.partition("#")
    there = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(home), path)))
    return posixpath.relpath(there, posixpath.dirname(name) or ".") + mark + anchor


def page_of(path: str) -> str:
    """Return the name of a file of the repository on the site; a notebook is a page."""
    return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))


def notebook(path: Path) -> str:
    """Return the cells of a notebook as Markdown, with the path of the notebook after the title."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, _, rest = parts[0].partition("\n")
    where = f"The notebook is `{path.relative_to(ROOT).as_posix()}` in the repository."
    return "\n\n".join([title, where, rest.strip(), *parts[1:]]) + "\n"


def settings() -> str:
    """Return tables of the settings of the model, the data and the trainer."""
    from graft.commands import TRAINER_DEFAULTS
    from graft.module import GraftModule
    from graft.rollouts import Rollouts

    text = ["## model", "", "A domain adds settings of its own; [classes](classes.md#domains) lists them.", ""]
    text += [table("model", GraftModule), *groups("model", GraftModule)]
    text += ["## data", "", table("data", Rollouts), *groups("data", Rollouts)]
    rows = [f"| `trainer.{name}` | `{value}` |" for name, value in TRAINER_DEFAULTS.items()]
    text += ["## trainer", "", "All settings of Lightning's `Trainer`. graft has other defaults for these:", ""]
    text += ["| setting | default |", "|---|---|", *rows]
    return "\n".join(text)


def groups(place: str, kind: type) -> Iterator[str]:
    """Yield a section for each argument of a class that is a group of settings."""
    hints = resolved(kind)
    for name in arguments(kind):
        group = next((each for each in alternatives(hints.get(name)) if is_dataclass(each)), None)
        if group is not None:
            yield f"### {place}.{name}\n\n{summary_of(group)}\n\n{table(f'{place}.{name}', group)}"
            yield from (section.replace("### ", "#### ", 1) for section in groups(f"{place}.{name}", group))


def classes() -> str:
    """Return a section for each kind of class that a configuration can name."""
    out = ["## Domains", ""]
    from graft.module import GraftModule

    own = set(arguments(GraftModule))
    for title, place in MODELS.items():
        module = importlib.import_module(place)
        for name, kind in members(module, GraftModule):
            rows = table("", kind, [each for each in arguments(kind) if each not in own])
            out += [f"### {place}.{name}", "", f"{title}. {summary_of(kind)}", "", rows, ""]
    for title, (places, base_name) in KINDS.items():
        where, _, base = base_name.rpartition(".")
        out += [f"## {title}", ""]
        for place in places:
            for name, kind in members(importlib.import_module(place), getattr(importlib.import_module(where), base)):
                out += [f"### {place}.{name}", "", summary_of(kind), "", table("", kind), ""]
    return "\n".join(out)


def members(module: Any, base: type) -> list[tuple[str, type]]:
    """Return the public concrete subclasses in a module, by name."""
    public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    found = [(name, getattr(module, name)) for name in sorted(public)]
    return [
        (name, kind)
        for name, kind in found
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base and not inspect.isabstract(kind)
    ]


def table(place: str, kind: type, names: "list[str] | None" = None) -> str:
    """Return a table of the arguments of a class: name, type, default, text."""
    found = arguments(kind)
    texts = descriptions(kind)
    rows = []
    for name in found if names is None else names:
        parameter = found[name]
        full = f"{place}.{name}" if place else name
        rows.append(f"| `{full}` | {typed(parameter)} | {default(kind, parameter)} | {cell(texts.get(name, ''))} |")
    if not rows:
        return "No arguments."
    return "\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows])


def arguments(kind: type) -> dict[str, inspect.Parameter]:
    """Return the named arguments of a constructor, those that it passes on to its base included."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = dict(inspect.signature(base).parameters)
        passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        found |= {name: each for name, each in named.items() if name not in found and name != "self"}
        if not passes_on:
            break
    return found


def descriptions(kind: type) -> dict[str, str]:
    """Return the text of each argument, from the docstrings of a class and its bases."""
    out: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__doc__ and "Args:" in base.__doc__:
            parsed = parse_google(inspect.cleandoc(base.__doc__))
            out |= {each.arg_name: each.description or "" for each in parsed.params}
    return out


def summary_of(kind: type) -> str:
    """Return the first paragraph of a docstring."""
    return cell(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0])


def cell(text: str) -> str:
    """Return a text of a docstring as one line of Markdown."""
    text = re.sub(r":math:`([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    parts = text.split("`")
    parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]  # not within code
    return "`".join(parts)


def typed(parameter: inspect.Parameter) -> str:
    """Return the type of an argument as code."""
    note = parameter.annotation
    if note is inspect.Parameter.empty:
        return ""
    text = (
        note if isinstance(note, str) else getattr(note, "__name__", str(note)) if inspect.isclass(note) else str(note)
    )
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text.strip("'\""))
    return f"`{text}`"


def default(kind: type, parameter: inspect.Parameter) -> str:
    """Return the default of an argument as code; empty for a group of settings."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if is_dataclass(value) or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return "see its settings"
    if inspect.isclass(value) or callable(value):
        return f"`{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def resolved(kind: type) -> dict[str, Any]:
    """Return the types of the arguments of a constructor."""
    return typing.get_type_hints(kind.__init__, include_extras=True)  # type: ignore[misc]


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return typing.get_args(hint) or (hint,)


def fields(name: str) -> str:
    """Return a table of the fields of a ``summary.json``, from its schema."""
    schema = json.loads((ROOT / f"docs/reference/{name}.schema.json").read_text(encoding="utf-8"))
    out = ["| field | type | meaning |", "|---|---|---|"]

    def walk(about: dict[str, Any], place: str) -> None:
        for name, each in about.get("properties", {}).items():
            each = schema["$defs"][each["$ref"].rpartition("/")[2]] | each if "$ref" in each else each
            kinds = each.get("type", "object")
            said = kinds if isinstance(kinds, str) else " or ".join(kinds)
            out.append(f"| `{place}{name}` | {said} | {each.get('description', '')} |")
            walk(each, f"{place}{name}.")
            items = each.get("items", {})
            walk(items, f"{place}{name}[].")

    walk(schema, "")
    return "\n".join(out)


SUMMARIES = ("summary", "pretrain_summary", "correct_summary")
GENERATED = {"settings": settings, "classes": classes, **{name: partial(fields, name) for name in SUMMARIES}}
