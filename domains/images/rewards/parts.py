"""Parts of a model other than its weights: a missing one is named, with the setting that gives its folder."""

from pathlib import Path
from typing import Any

from domains.images import pretrained
from domains.images.pretrained import first_line
from graft.errors import GraftError

FILES = {
    "the tokenizer": ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model"),
    "CLIP's settings": ("config.json",),
    "the image processor": ("preprocessor_config.json", "processor_config.json"),
}
"""Files of each part, of which a folder has at least one."""


def load_part(kind: Any, reward: str, what: str, name: str, setting: str) -> Any:
    """Return ``kind.from_pretrained(name)``.

    Args:
        kind: Class of transformers.
        reward: Name of the reward, for messages.
        what: Name of the part, one of `FILES`.
        name: Folder of the part, or its name on the hub.
        setting: Setting of the reward that gives ``name``.

    Raises:
        GraftError: The part is missing or damaged.
    """
    folder = _place(reward, what, name, setting)
    if folder.is_dir() and not any((folder / file).is_file() for file in FILES[what]):
        # transformers makes a tokenizer without words, or default settings, of an empty folder
        raise cannot_load(reward, what, name, setting, f"the folder has none of {', '.join(FILES[what])}")
    try:
        return kind.from_pretrained(str(folder) if folder.is_dir() else name)
    except ImportError:  # the caller names the missing package
        raise
    except Exception as error:  # the hub, the network and the files raise errors of many types
        raise cannot_load(reward, what, name, setting, first_line(error)) from None


def load_network(kind: Any, reward: str, what: str, name: str, setting: str, **given: Any) -> Any:
    """Return ``kind.from_pretrained(name, **given)``, checked by `domains.images.pretrained.load_pretrained`.

    Args:
        kind: Class of transformers.
        reward: Name of the reward, for messages.
        what: Name of the network, such as ``the vision tower``.
        name: Folder of the network, or its name on the hub.
        setting: Setting of the reward that gives ``name``.
        **given: Arguments of ``from_pretrained``.

    Raises:
        GraftError: The network is missing or damaged.
    """
    folder = _place(reward, what, name, setting)
    try:
        return pretrained.load_pretrained(kind, str(folder) if folder.is_dir() else name, f"{what} {name!r}", **given)
    except (ImportError, GraftError):
        raise
    except Exception as error:  # the hub, the network and the files raise errors of many types
        raise cannot_load(reward, what, name, setting, first_line(error)) from None


def cannot_load(reward: str, what: str, name: str, setting: str, why: str) -> GraftError:
    """Return the error about a part of a model that cannot be loaded."""
    return GraftError(
        f"{reward} cannot load {what} from {name!r} ({why}): give the folder of its files with data.reward.{setting}, "
        "or a connection to the hub"
    )


def find_file(reward: str, what: str, name: str, file: str, setting: str = "model") -> Path:
    """Return the path of a file of a model.

    Args:
        reward: Name of the reward, for messages.
        what: Name of the file's content, for messages.
        name: The file itself, its folder, or the name of the model on the hub.
        file: Name of the file in the folder or on the hub.
        setting: Setting of the reward that gives ``name``.

    Raises:
        GraftError: There is no such file.
    """
    local = _place(reward, what, name, setting)
    if local.is_file():
        return local
    if local.is_dir():
        if (local / file).is_file():
            return local / file
        raise cannot_load(reward, what, name, setting, f"the folder has no {file}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file))
    except Exception as error:  # the hub and the network raise errors of many types
        raise cannot_load(reward, what, name, setting, first_line(error)) from None


def _place(reward: str, what: str, name: str, setting: str) -> Path:
    """Return a name as a path, which need not exist if the name may be one of the hub.

    Raises:
        GraftError: The name can only be a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if not path.exists() and (path.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise cannot_load(reward, what, name, setting, "there is no such file or folder")
    return path
