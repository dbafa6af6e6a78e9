"""The folder of caches."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$GRAFT_CACHE``, ``$XDG_CACHE_HOME/graft`` or ``~/.cache/graft``.

    The first that is set counts.
    """
    if own := os.environ.get("GRAFT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"
