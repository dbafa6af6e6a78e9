"""The architecture: no file imports one of a higher layer, late imports and those for types included."""

import ast
from pathlib import Path

import graft

LAYERS = (
    # values, files and helpers
    {"errors", "version", "state", "seeding", "plain_json", "threads", "samples", "intervals", "recorded_arguments"},
    {"limits", "plain_yaml", "text", "datatypes", "distance", "files", "finite"},
    {"distributed", "csv_files", "fingerprint", "optimizers"},
    {"copies", "training_set", "metrics"},
    {"hooks"},
    # what a model is made of
    {"process"},
    {"solvers"},
    {"sampler"},
    {"network", "accept", "filters", "reward", "domain", "corrector", "flops"},
    {"policy"},
    # what a round is made of
    {"objectives", "dataloaders", "evaluation", "feasible", "sharding", "feature_training"},
    {"runs", "preflight"},
    {"rounds", "callbacks"},
    # the two classes of Lightning
    {"pretrained"},
    {"module"},
    {"data_modules"},
    {"alarms", "rollout_checks"},
    {"settings"},
    {"rollouts"},
    # analyses and pages
    {"report", "best_of"},
    {"levels", "hits", "evaluate"},
    # commands
    {"commands"},
    {"compare", "correct"},
    {"cli"},
    {"__main__", "__init__"},
)
ROOT = Path(graft.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def unit(path: Path) -> str:
    """Return the folder or file directly below graft/ that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


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
    assert sorted(named) == sorted({unit(path) for path in FILES})


def test_nothing_imports_upwards() -> None:
    """An import within a layer is allowed between the files of one unit only."""
    place = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upwards = []
    for path in FILES:
        own = unit(path)
        for name in imported(path):
            other = name.split(".")[1] if "." in name else "__init__"
            if own != other and place[other] >= place[own]:
                upwards.append(f"{path.relative_to(ROOT)} ({own}) imports {name}")
    assert not upwards, "\n".join(upwards)


def test_no_cycles_of_files() -> None:
    """The files of one unit import each other in an order, too."""
    names = {".".join(("graft", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    edges = {name: {each for each in imported(path) if each in names and each != name} for name, path in names.items()}
    while edges:
        free = {name for name, targets in edges.items() if not targets & edges.keys()}
        assert free, f"these files import each other: {sorted(edges)}"
        edges = {name: targets for name, targets in edges.items() if name not in free}
