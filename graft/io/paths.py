"""Paths: a name is found in the current folder, in the installed configurations and in the domains."""

import importlib.util
from pathlib import Path

from graft.errors import GraftError


def domain_roots() -> list[Path]:
    """Return every folder that holds a part of the ``domains`` namespace, of graft or others."""
    spec = importlib.util.find_spec("domains")  # looked up and not imported, because the core must not import domains
    return [Path(part).parent for part in spec.submodule_search_locations or ()] if spec else []


def search_paths() -> list[Path]:
    """Return the folders in which names are looked up, in order.

    They are the current folder, its ``configs``, the installed ``configs`` and the `domain_roots`.
    """
    package = Path(__file__).parents[1]
    found: list[Path] = []
    for root in [Path.cwd(), Path.cwd() / "configs", package / "configs", package.parent / "configs", *domain_roots()]:
        if root.is_dir() and root not in found:
            found.append(root)
    return found


def find_file(name: "str | Path") -> Path:
    """Return the path of a file, found as a path or below one of the `search_paths`.

    Raises:
        GraftError: There is no such file.
    """
    path = Path(name)
    candidates = [path] if path.is_absolute() else [root / path for root in search_paths()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise GraftError(f"there is no file {str(name)!r}, neither here nor in the installed packages")


def list_files(root: Path, suffix: str) -> list[str]:
    """Return the sorted paths, relative to ``root``, of all files with a suffix below it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{suffix}"))
