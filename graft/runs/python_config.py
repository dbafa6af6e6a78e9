"""A configuration written from Python, and its settings that no file can describe.

An object that no file can describe (a lambda, a class of the program itself, a network without its arguments) is named
in a comment; the command line must give it when it resumes the run.
"""

from collections.abc import Iterable
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files

HEADING = "# written by graft from Python objects: a setting that is missing has its default\n"
MISSING = "# made in Python, so that no configuration describes it: "


def comments(holes: dict[str, str]) -> str:
    """Return the comments that name settings and their objects, a line each."""
    return "".join(f"{MISSING}{place} ({' '.join(what.split())})\n" for place, what in holes.items())


def undescribed(text: str) -> dict[str, str]:
    """Return the settings that a kept configuration cannot describe, each with a word about the object."""
    lines = [line.removeprefix(MISSING) for line in text.splitlines() if line.startswith(MISSING)]
    return {place: what.rstrip(")") for place, _, what in (line.partition(" (") for line in lines)}


def require_described(text: str, of: str, given: Iterable[str] = (), places: Iterable[str] = ("",)) -> None:
    """Raise GraftError if a configuration does not describe all objects that are to be built.

    Args:
        text: The configuration.
        of: The file, for the message.
        given: Settings that the user gives in addition.
        places: Sections that are to be built.
    """
    given, places = tuple(given), tuple(places)
    holes = {
        place: what
        for place, what in undescribed(text).items()
        if not any(place.startswith(each) or each.startswith(f"{place}.") for each in given)
        and any(place.startswith(each) for each in places)
    }
    if holes:
        names = ", ".join(f"{place} ({what})" for place, what in holes.items())
        raise GraftError(
            f"{of} is of a run that was started from Python and does not say {names}: give it with "
            f"--{next(iter(holes))}, or resume in Python with graft.fit(..., checkpoint='last')"
        )


def with_defaults(text: str, config: str, parser: Any) -> str:
    """Return a kept configuration with the defaults of missing settings; another configuration unchanged.

    Args:
        text: The configuration.
        config: The whole configuration that resumes the run; it describes the objects that ``text`` cannot describe.
        parser: Parser of the command.

    Raises:
        GraftError: A setting is unknown.
    """
    if not text.startswith(HEADING):
        return text
    from jsonargparse import ArgumentError

    settings, ours = (yaml_files.parse_yaml(each, "config.yaml") for each in (text, config))
    for place in undescribed(text):
        _set(settings, place.split("."), _get(ours, place.split(".")))
    try:
        parsed = parser.parse_object(settings)
    except (ArgumentError, TypeError, ValueError) as error:
        raise GraftError(f"the configuration that the run was started with cannot be read ({error})") from None
    for name in ("ckpt_path", "run_dir"):
        parsed[name] = None
    return str(parser.dump(parsed, skip_none=False))


def _get(settings: Any, path: list[str]) -> Any:
    for name in path:
        inner = settings.get("init_args", {}) if isinstance(settings, dict) and name not in settings else settings
        settings = inner.get(name) if isinstance(inner, dict) else None
    return settings


def _set(settings: Any, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        settings = settings.setdefault(name, {})
    settings = settings.setdefault("init_args", {}) if "init_args" in settings else settings
    settings[path[-1]] = value
