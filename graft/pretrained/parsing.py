"""Configurations as files, and the errors of the parser that reads them, in one sentence."""

import json
import re
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files

NOISE = ("Does not validate", "Subtypes:", "Errors:", "Expected NoneType", "Expected a path but", "Given value")


def read_config(path: str) -> dict[str, Any]:
    """Return the settings of a configuration file, by section."""
    read = yaml_files.read_yaml(Path(path))
    if not isinstance(read, dict | None):
        raise GraftError(f"{path} is no configuration: it holds no settings by name")
    for name, value in (read or {}).items():
        _check_section(path, name, value)
    return read or {}


def _check_section(path: str, name: Any, value: Any) -> None:
    """Raise GraftError if a section of a configuration does not hold settings by name."""
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


def shorten_parser_error(message: str) -> str:
    """Return the part of a parser's message that names the setting and the mistake."""
    keys, owner, parts = list[str](), "", list[str]()
    message = re.sub(r"a typing\.Literal\[(.+?)\]", r"\1", re.sub(r"(?:a )?<class '(.+?)'>", r"\1", message))
    for line in message.splitlines():
        line = line.strip(" -")
        if match := re.match(r'Parser key "(.+?)":\s*(.*)', line):
            keys.append(match[1])
            line = match[2]
        elif match := re.match(r"Problem with given class_path '(.+)':", line):
            owner, line = f" by {match[1]}", ""
        if line and not line.startswith(NOISE):
            unknown = line.endswith("is not accepted") or line.startswith("unrecognized arguments")
            parts.append(line + (owner if unknown else ""))
    if parts and parts[0].startswith("Expected ") and (given := re.search(r"Given value: (.*)", message)):
        # a setting of several kinds has one line for each kind
        kinds = [line.removeprefix("Expected ") for line in parts if line.startswith("Expected ")]
        parts[0] = f"Expected {' or '.join(kinds)}. Got value: {given[1]}"
    elif parts:  # the first kind names the mistake; the other kinds only reject the value
        parts = [parts[0], *(line for line in parts[1:] if not line.startswith("Expected "))]
    return f"{'.'.join(keys)}: {parts[0]}" if keys and parts else " ".join(parts)
