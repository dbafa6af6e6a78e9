"""Command lines of modules that are run with ``python -m``."""

import os
import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser

from graft.errors import GraftError


def script(function: Callable[..., Any], description: "str | None") -> None:
    """Call a function with the arguments of the command line, and print its result.

    The exit status is 2 where the function raises `GraftError`; its message is printed, with a traceback where the
    environment has ``GRAFT_TRACEBACK=1``.

    Args:
        function: Function whose parameters are the settings; ``--config`` names a file of them.
        description: Text of the help.
    """
    parser = ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(function)
    given = parser.parse_args()
    given.pop("config", None)
    try:
        print(function(**{**given, "out": str(given.out)}))
    except GraftError as error:
        if os.environ.get("GRAFT_TRACEBACK") == "1":
            raise
        print(f"graft: {error}", file=sys.stderr)
        sys.exit(2)
