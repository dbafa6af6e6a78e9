"""Figures of a reference's card: its draws and real layouts, in one convention.

``python -m domains.layouts.model_card --weights reference.safetensors --source src1_valid.txt --test src1_test.txt``
"""

from typing import Any

import jsonargparse
import torch

import graft
from domains.layouts.data import LayoutData
from domains.layouts.metrics import compute_metrics, make_metrics, metrics_table
from domains.layouts.module import Layouts
from domains.layouts.readers import read_layouts
from graft.io import yaml_files
from graft.io.paths import find_file
from graft.io.tensors import read_metadata


def card(
    weights: str,
    source: str,
    test: "str | None" = None,
    draws: int = 2000,
    steps: "int | None" = None,
    seed: int = 0,
    convention: str = "layoutformer",
) -> str:
    """Return two tables: against half of the held-out layouts, and against another set.

    Args:
        weights: Weights of a reference, or of a tuned model.
        source: Training data of the reference; the training held a part of them out.
        test: Another set of layouts.
        draws: Number of draws for ``test``; the table of halves has as many as a half.
        steps: Number of steps of the sampler; the model's if not given.
        seed: Seed of the draws.
        convention: Convention of the metrics.
    """
    module, settings = _module(weights, steps, seed)
    data = LayoutData(source, list(module.names), module.elements, **settings)
    kept = data.val_set.layouts()
    n = len(kept) // 2
    half, other = kept[:n], kept[n : 2 * n]
    drawn = graft.sample(module, max(draws, n), trainer=graft.trainer(accelerator="cpu"))
    network = module.features if module.supports("features") else None
    found = make_metrics(module.names, half, network, convention)
    rows = {
        f"the other half of the held-out, n = {n}": compute_metrics(other, found),
        f"draws, n = {n}": compute_metrics(drawn[:n], found),
    }
    out = [f"Against one half of the held-out layouts (n = {n}):", "", metrics_table(rows, convention)]
    if test is not None:
        pages = read_layouts(test, module.names, module.elements).layouts()
        found = make_metrics(module.names, pages, network, convention)
        real = compute_metrics(pages, {name: found[name] for name in ("alignment", "overlap", "elements")})
        rows = {
            "themselves": real,
            f"the held-out, n = {len(kept)}": compute_metrics(kept, found),
            f"draws, n = {draws}": compute_metrics(drawn[:draws], found),
        }
        out += [
            "",
            f"Against the {len(pages)} layouts of {test.rpartition('/')[2]}:",
            "",
            metrics_table(rows, convention),
        ]
    return "\n".join(out)


def _module(weights: str, steps: "int | None", seed: int) -> "tuple[Layouts, dict[str, Any]]":
    """Return the model of a weights file, and the settings of its training's split."""
    overrides: dict[str, Any] = {"seed": seed} | ({} if steps is None else {"steps": steps})
    path = find_file(weights)
    return Layouts.from_pretrained(path, **overrides), _split(read_metadata(path))


def _split(about: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the training's split that a weights file holds; numbers only."""
    training = about.get("training")
    settings = training if isinstance(training, dict) else {}
    found = {name: settings.get(f"data.init_args.{name}") for name in ("val_fraction", "seed", "count", "limit")}
    return {name: value for name, value in found.items() if type(value) in (int, float)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    yaml_files.check_yaml_in_parser()
    parser = jsonargparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_function_arguments(card)
    print(card(**parser.parse_args()))
