"""Pipelines of diffusers that graft tunes: tiny ones of the real classes, accepted or refused.

    python tests/benchmarks/pipelines.py            # writes the table of docs/guides/pipelines.md
    python tests/benchmarks/pipelines.py Sana Wan   # prints the rows of these families

A row holds for the class, not for weights: its tiny pipeline has the real code and random weights.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "text_to_image"))
warnings.simplefilter("ignore")

PAGE = Path(__file__).parents[2] / "docs/guides/pipelines.md"
HEAD = "| pipeline | class | guidance scale | settings of the call | branches | result |"
PROMPTS = "a red ball\na blue cube on a table\na dog\n"


def tried(name: str, family: Any, folder: Path, **settings: Any) -> "tuple[str, Any]":
    """Return (row of the table, the module), with None for a pipeline that is refused."""
    import torch

    from domains.images import pretrained
    from domains.images.text import Guidance, TextToImage
    from domains.images.text.adapters import RecordedAdapter
    from graft import GraftError

    torch.manual_seed(0)
    with pretrained.quiet():
        pipe = family.build()
        pipe.save_pretrained(folder / name)
    (folder / "prompts.txt").write_text(PROMPTS)
    adapter = RecordedAdapter(family.call)
    given = {"steps": 4, "height": family.size, "width": family.size, "scheduler": family.scheduler, **settings}
    call = ", ".join(f"`{key}: {_plain(value)}`" for key, value in (family.call | family.scheduler).items())
    start = f"| {name} | `{type(pipe).__name__}` | {family.guidance:g} | {call} |"
    try:
        model = TextToImage(
            str(folder / name),
            str(folder / "prompts.txt"),
            guidance=Guidance(family.guidance),
            adapter=adapter,
            **given,
        )
    except GraftError as error:
        return f"{start} | refused: {str(error).partition('cannot be tuned here: ')[2] or error} |", None
    return f"{start} {_branches(adapter)} | certified |", model


def _branches(adapter: Any) -> str:
    rule = adapter.guided
    if rule.scale is None:
        return "one"
    return f"two, scale {rule.scale:g}" + (", normalised" if rule.normalised else "")


def _plain(value: Any) -> str:
    """Return a value in YAML's notation."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value) if isinstance(value, tuple) else value)


def main(names: list[str]) -> None:
    import families
    import torch

    torch.set_num_threads(1)
    rows = []
    for name in names or families.FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(tried(name, families.FAMILIES[name], Path(folder))[0])
        print(rows[-1], flush=True)
    if not names:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEAD)
        after = rest.partition("\n\n")[2]
        PAGE.write_text(f"{before}{HEAD}\n|---|---|---|---|---|---|\n" + "\n".join(rows) + f"\n\n{after}", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
