"""Configurations: found by name, and what they are for."""

import json
from pathlib import Path
from typing import Any

from graft import files, plain_yaml
from graft.errors import GraftError
from graft.runs import config_of_objects


def list_configs() -> list[str]:
    """Names of the configurations that ``--config`` finds."""
    names: list[str] = []
    for root in files.search_paths():
        if root.name == "configs":
            names += files.list_files(root, ".yaml")
        elif root != Path.cwd():
            names += [f"domains/{name}" for name in files.list_files(root / "domains", ".yaml")]
    return sorted(set(names))


def resolve_config_paths(command: str, args: list[str]) -> list[str]:
    """The arguments with each configuration's name replaced by its path."""
    out = list(args)
    for i, arg in enumerate(out):
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if not equals and i + 1 == len(out):
            raise GraftError("--config needs a name")
        name = value if equals else out[i + 1]
        try:
            path = str(files.find_file(name))
        except GraftError:
            raise GraftError(f"there is no configuration {name!r}; there are {', '.join(list_configs())}") from None
        settings = [flag.partition("=")[0].removeprefix("--") for flag in args if flag.startswith("--")]
        config_of_objects.refuse(Path(path).read_text(encoding="utf-8-sig"), name, settings)
        data = read_config(path).get("data", {})
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


def read_config(path: str) -> dict[str, Any]:
    """Of a configuration, by name."""
    read = plain_yaml.read(Path(path))
    if not isinstance(read, dict | None):
        raise GraftError(f"{path} is no configuration: it holds no settings by name")
    for name, value in (read or {}).items():
        _check_section(path, name, value)
    return read or {}


def _check_section(path: str, name: Any, value: Any) -> None:
    """Refuse a section of a configuration that does not hold settings by name."""
    if not isinstance(name, str):
        raise GraftError(f"{path}: {name!r} is no setting; it must be a name such as model, data or trainer")
    sections: list[tuple[str, Any]] = [(name, value)] if name in ("model", "data", "trainer") else []
    if sections and isinstance(value, dict) and "init_args" in value:
        sections.append((f"{name}.init_args", value["init_args"]))
    for each, settings in sections:
        if isinstance(settings, str) and each in ("model", "data") and "." in settings:
            continue  # a class by its path
        if not isinstance(settings, dict):
            raise GraftError(
                f"{path}: {each} is {json.dumps(settings, default=str)[:80]}; it must hold settings by name"
            )


def config_name(args: list[str]) -> str:
    """Of the run: the first configuration's."""
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in ("--config", "-c"):
            return Path(value if equals else args[i + 1]).stem
    return "run"
