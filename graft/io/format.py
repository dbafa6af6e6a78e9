"""The format number and the checksum that each file of graft holds of its own content."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graft.errors import GraftError
from graft.io.checksum import checksum

FORMAT = 3
"""Format number of the files that graft writes."""


def content_checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum of a file's metadata, in JSON types, and of its tensors."""
    return checksum({"about": json.dumps(about, sort_keys=True), "tensors": tensors})


def with_checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the metadata of a file with its format number and checksum."""
    noted = {**about, "format": FORMAT}
    return {**noted, "sha256": content_checksum(noted, tensors)}


def check_format(path: "str | Path", about: Mapping[str, Any]) -> None:
    """Raise GraftError if a file has the format of another version of graft."""
    if (found := about.get("format")) != FORMAT:
        raise GraftError(f"{path} was written by another version of graft: its format is {found!r}, not {FORMAT}")


def without_checksum(
    path: "str | Path", about: Mapping[str, Any], tensors: Mapping[str, Tensor], remedy: str
) -> dict[str, Any]:
    """Return the metadata that `with_checksum` got.

    Args:
        path: Path of the file, for messages.
        about: Metadata with the format number and the checksum.
        tensors: Tensors of the file.
        remedy: Advice for a changed file, for the message.

    Raises:
        GraftError: The file was changed, or comes from another version of graft.
    """
    check_format(path, about)
    noted = {name: value for name, value in about.items() if name != "sha256"}
    if about.get("sha256") != content_checksum(noted, tensors):
        raise GraftError(f"{path} was changed since it was written (its checksum does not match): {remedy}")
    del noted["format"]
    return noted
