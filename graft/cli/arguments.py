"""Arguments of a command line."""

import shlex
from collections.abc import Sequence
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files


def command_line(command: str, args: list[str]) -> str:
    """Return a command with its arguments as one line for a shell."""
    return shlex.join(["graft", command, *args])


def split_flags(args: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return (values of the flags with these names, the other arguments)."""
    own, rest = dict[str, str](), list[str]()
    left = iter(args)
    for arg in left:
        flag, equals, value = arg.partition("=")
        if flag.removeprefix("--") not in names or not flag.startswith("--"):
            rest.append(arg)
            continue
        given = value if equals else next(left, None)
        if given is None:
            raise GraftError(f"{flag} needs a value")
        own[flag.removeprefix("--")] = given
    return own, rest


def model_overrides(args: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return (settings of the model by name, the other arguments)."""
    flags = [arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--model.")]
    own, rest = split_flags(args, flags)
    given = {
        name.removeprefix("model."): yaml_files.parse_yaml(text, f"the value of --{name}") for name, text in own.items()
    }
    return given, rest
