"""Pictures that ``graft sample`` wrote, with their prompts, as the programs of benchmarks take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from domains.images.files import TABLE
from domains.images.picture_tables import read_table
from graft.errors import GraftError
from graft.io.atomic import write_bytes


@dataclass(frozen=True)
class Sampled:
    """A picture on disk.

    Attributes:
        path: File of the picture.
        prompt: Its prompt.
        tag: Skill of the benchmark that the prompt tests; "" if it has none.
    """

    path: Path
    prompt: str
    tag: str = ""


def read_pictures(folder: str) -> list[Sampled]:
    """Return the pictures of a folder that ``graft sample --out FOLDER`` wrote, in order.

    Raises:
        GraftError: The folder has no table, a picture has no prompt, or a file is missing.
    """
    place = Path(folder)
    rows = read_table(place / TABLE)
    if "prompt" not in rows[0]:
        raise GraftError(f"{place / TABLE} has no column 'prompt': sample from a model of pictures and prompts")
    found = [Sampled(place / (row["file"] or ""), row["prompt"] or "", row.get("tag") or "") for row in rows]
    for each in found:
        if not each.prompt or not each.path.is_file():
            raise GraftError(f"{place / TABLE} names {each.path.name!r} without a prompt or a file: sample again")
    return found


def by_prompt(pictures: Sequence[Sampled], prompts: Sequence[str]) -> list[list[Sampled]]:
    """Return the pictures of each prompt of a benchmark.

    Raises:
        GraftError: A prompt has no picture, or a picture has another prompt.
    """
    groups: dict[str, list[Sampled]] = {prompt: [] for prompt in prompts}
    for each in pictures:
        if each.prompt not in groups:
            raise GraftError(f"the prompt {each.prompt!r} of {each.path.name} is not one of the benchmark")
        groups[each.prompt].append(each)
    missing = [prompt for prompt in prompts if not groups[prompt]]
    if missing:
        raise GraftError(
            f"{len(missing)} of {len(groups)} prompts have no picture (first: {missing[0]!r}). Sample a multiple of "
            "the number of prompts"
        )
    return [groups[prompt] for prompt in prompts]


def copy_to(picture: Sampled, path: Path) -> None:
    """Copy a picture to a path whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture.path.read_bytes())


def empty_folder(path: str, suffix: str = "") -> Path:
    """Return a folder for the output, made if it is not there.

    Raises:
        GraftError: It holds something, so that pictures of another model could be scored with these.
    """
    folder = Path(path) / suffix
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GraftError(f"{folder} is not empty: give another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
