"""Configurations: found by name, checked, and matched with the command."""

from pathlib import Path

from graft.errors import GraftError
from graft.io.paths import find_file, list_files, search_paths
from graft.pretrained.parsing import read_config
from graft.runs.python_config import require_described


def list_configs() -> list[str]:
    """Return the names of the configurations that ``--config`` finds."""
    names: list[str] = []
    for root in search_paths():
        if root.name == "configs":
            names += list_files(root, ".yaml")
        elif root != Path.cwd():
            names += [f"domains/{name}" for name in list_files(root / "domains", ".yaml")]
    return sorted(set(names))


def resolve_config_paths(command: str, args: list[str]) -> list[str]:
    """Return the arguments with the path of each configuration in place of its name."""
    out = list(args)
    for i, arg in enumerate(out):
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if not equals and i + 1 == len(out):
            raise GraftError("--config needs a name")
        name = value if equals else out[i + 1]
        try:
            path = str(find_file(name))
        except GraftError:
            raise GraftError(f"there is no configuration {name!r}; there are {', '.join(list_configs())}") from None
        settings = [flag.partition("=")[0].removeprefix("--") for flag in args if flag.startswith("--")]
        data = read_config(path).get("data", {})  # first, because it raises GraftError for a file that is not text
        require_described(Path(path).read_text(encoding="utf-8-sig"), name, settings)
        if isinstance(data, str):  # a class by its path
            data = {"class_path": data}
        corrects = isinstance(data.get("source"), dict)
        if corrects and command != "correct":
            raise GraftError(f"{name} corrects a flow: use it with graft correct")
        if command in ("pretrain", "correct") and "reward" in data and not corrects:
            raise GraftError(f"{name} fine-tunes, it does not train on data: use it with graft fit")
        if command != "pretrain" and "class_path" in data:
            raise GraftError(f"{name} trains on data: use it with graft pretrain")
        if equals:
            out[i] = f"--config={path}"
        else:
            out[i + 1] = path
    return out


def config_name(args: list[str]) -> str:
    """Return the name of a run: the name of the first configuration, without the suffix."""
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in ("--config", "-c"):
            return Path(value if equals else args[i + 1]).stem
    return "run"
