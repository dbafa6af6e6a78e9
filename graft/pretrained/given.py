"""The model that a user's configurations and flags describe."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files
from graft.pretrained.parsing import read_config
from graft.runs.python_config import HEADING


@dataclass
class GivenModel:
    """The model that the user's configurations and flags describe.

    Attributes:
        class_path: Class, as the user names it; None if no source names one.
        weights: Reference; None if no source names one.
        replaced: Settings that replace those of the weights, without settings that are given in part.
        from_python: True if a configuration is of a run from Python, where a missing setting has its default.
    """

    class_path: "str | None" = None
    weights: "str | None" = None
    replaced: dict[str, Any] = field(default_factory=dict)
    from_python: bool = False

    def add(self, model: Any) -> None:
        """Add a ``model`` section, which replaces settings that were added before."""
        if isinstance(model, str):
            self.class_path = model
        elif isinstance(model, dict):
            if isinstance(model.get("class_path"), str):
                self.class_path = model["class_path"]
            settings = model.get("init_args")
            for name, value in settings.items() if isinstance(settings, dict) else ():
                self.set(str(name), value)

    def set(self, name: str, value: Any) -> None:
        """Add one setting of the model."""
        if name == "weights":
            self.weights = value if isinstance(value, str) else None
        if not isinstance(value, dict) or "class_path" in value:
            self.replaced[name] = value

    def set_flag(self, name: str, text: str) -> None:
        """Add the value of the flag ``--model.NAME``."""
        path = name.split(".")
        path = path[1:] if path[0] == "init_args" and len(path) > 1 else path
        if path == ["class_path"]:
            self.class_path = text
        elif len(path) == 1:
            value: Any = text
            with suppress(GraftError):  # the parser has a better message
                value = yaml_files.parse_yaml(text, f"the value of --model.{name}")
            self.set(path[0], value)
        elif path[1:] == ["class_path"]:
            self.replaced[path[0]] = {"class_path": text}


def given_model(args: list[str]) -> GivenModel:
    """Return the model that arguments with paths of configurations describe; the last source wins."""
    found, left = GivenModel(), iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c", "--model") and not flag.startswith("--model."):
            continue
        text = value if equals else next(left, "")
        if flag in ("--config", "-c"):
            found.add(read_config(text).get("model"))  # first, because it raises GraftError for a file that is not text
            found.from_python |= Path(text).read_text(encoding="utf-8-sig").startswith(HEADING)
        elif flag == "--model":
            with suppress(GraftError):  # the parser has a better message
                found.add(yaml_files.parse_yaml(text, "the value of --model"))
        else:
            found.set_flag(flag.removeprefix("--model."), text)
    return found
