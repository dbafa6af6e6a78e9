"""The file of the reference that tuned weights name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.paths import find_file
from graft.network.weights import is_reference


def find_reference(path: Path, reference: Any) -> str:
    """Return the file of the reference that weights were tuned from, checked by its hash.

    Raises:
        GraftError: The reference is not here or has changed.
    """
    reference = reference if isinstance(reference, dict) else {}
    name = str(reference.get("path", ""))
    for place in _places(path, name, str(reference.get("relative_path", ""))):
        if "://" in place or place.startswith(("//", "\\\\")):
            continue
        try:
            file = find_file(place)
            if is_reference(file, reference.get("sha256")):
                return place
        except (GraftError, OSError, ValueError):
            continue
    raise GraftError(
        f"{path} was tuned from the reference {name[:200]!r}, which is not here or has changed: give it with "
        "--model.weights FILE, or, if the run is your own, name its folder with --weights and add --trust"
    )


def _places(path: Path, name: str, relative: str) -> Iterator[str]:
    """Yield possible paths of a reference: by its name, from the weights, and in the run's settings."""
    if name:
        yield name
        yield str(path.parent / name)
    if relative:
        yield str(path.parent / relative)
    for folder in (path.parent, path.parent.parent.parent):  # the folder may be that of a run or of one of its rounds
        try:
            config = yaml_files.read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
        except GraftError:
            continue
        model = config.get("model") if isinstance(config, dict) else None
        settings = model.get("init_args") if isinstance(model, dict) else None
        if isinstance(settings, dict) and isinstance(settings.get("weights"), str):
            yield settings["weights"]
