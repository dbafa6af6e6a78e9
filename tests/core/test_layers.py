"""The architecture: no file imports one of a higher layer, late imports and those for types included."""

import ast
from pathlib import Path

import graft

LAYERS = (
    # values, files and helpers
    {"errors", "version"},
    {"core"},
    {"io"},
    {"optimizers"},
    # what a model is made of
    {"process"},
    {"solvers"},
    {"sampler"},
    {"domain"},
    {"rating"},
    {"network", "accept", "filters", "reward"},
    {"policy"},
    # what a round is made of
    {"objectives", "dataloaders"},
    {"evaluation"},
    {"runs"},
    {"rounds"},
    # the two classes of Lightning
    {"pretrained"},
    {"module"},
    {"rollouts"},
    # pages and commands
    {"report"},
    {"commands.levels"},
    {"commands"},
    {"commands.compare", "commands.correct"},
    {"cli"},
    {"__main__", "__init__"},
)
ROOT = Path(graft.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


PLACE = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def unit(name: str) -> str:
    """Return the unit of a module: the folder or file directly below graft/, or a folder that `LAYERS` names."""
    parts = name.split(".")[1:] or ["__init__"]
    folder = ".".join(parts[:2])
    return folder if folder in PLACE else parts[0]


def module(path: Path) -> str:
    return ".".join(("graft", *path.relative_to(ROOT).with_suffix("").parts))


def imported(path: Path) -> set[str]:
    """Return the names below ``graft`` that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names if each.name.split(".")[0] == "graft"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "graft":
            for each in node.names:
                name = f"{node.module}.{each.name}"
                place = ROOT.joinpath(*name.split(".")[1:])
                found.add(name if place.is_dir() or place.with_suffix(".py").is_file() else node.module)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
    return found


def test_every_unit_has_a_layer() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert sorted(named) == sorted({unit(module(path)) for path in FILES})


def test_nothing_imports_upwards() -> None:
    """An import within a layer is allowed between the files of one unit only."""
    upwards = []
    for path in FILES:
        own = unit(module(path))
        for name in imported(path):
            other = unit(name)
            if own != other and PLACE[other] >= PLACE[own]:
                upwards.append(f"{path.relative_to(ROOT)} ({own}) imports {name}")
    assert not upwards, "\n".join(upwards)


def test_no_cycles_of_files() -> None:
    """The files of one unit import each other in an order, too."""
    names = {module(path).removesuffix(".__init__"): path for path in FILES}
    edges = {name: {each for each in imported(path) if each in names and each != name} for name, path in names.items()}
    while edges:
        free = {name for name, targets in edges.items() if not targets & edges.keys()}
        assert free, f"these files import each other: {sorted(edges)}"
        edges = {name: targets for name, targets in edges.items() if name not in free}
