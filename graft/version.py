"""The version of graft, and those of the programs below it, without an import of them."""

import importlib.metadata
import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions of graft, Python, torch and Lightning by name."""
    return {
        "graft": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "lightning")},
    }
