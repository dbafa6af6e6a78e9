"""The figures of a reference's card: its draws and real layouts beside each other, in one convention.

``python -m domains.layouts.model_card --weights reference.safetensors --source src1_valid.txt --test src1_test.txt``
"""

from typing import Any

import jsonargparse
import torch

import graft
from domains.layouts.data import LayoutData
from domains.layouts.metrics import compute_metrics, make_metrics, table
from domains.layouts.module import Layouts
from domains.layouts.readers import read
from graft import files, plain_yaml
from graft.cli import allowed_classes
from graft.cli.weights import architecture
from graft.errors import GraftError
from graft.module import GraftModule


def card(
    weights: str,
    source: str,
    test: "str | None" = None,
    draws: int = 2000,
    steps: "int | None" = None,
    seed: int = 0,
    convention: str = "layoutformer",
) -> str:
    """Two tables: against a half of the layouts that the training held out, and against another set.

    Args:
        weights: Of a reference, or a tuned model.
        source: What the reference was trained on, of which its training held a part out.
        test: Another set of layouts.
        draws: Of the model, against ``test``; against the half, as many as its other half has.
        steps: Of the sampler, instead of the model's.
        seed: Of the draws.
        convention: Of the metrics.
    """
    module, settings = _module(weights, steps, seed)
    data = LayoutData(source, list(module.names), module.elements, **settings)
    kept = data.held_out.layouts()
    n = len(kept) // 2
    half, other = kept[:n], kept[n : 2 * n]
    drawn = [item for part, _ in graft.sample(module, graft.trainer(accelerator="cpu"), max(draws, n)) for item in part]
    network = module.features if module.has_features else None
    found = make_metrics(module.names, half, network, convention)
    rows = {
        f"the other half of the held-out, n = {n}": compute_metrics(other, found),
        f"draws, n = {n}": compute_metrics(drawn[:n], found),
    }
    out = [f"Against one half of the held-out layouts (n = {n}):", "", table(rows, convention)]
    if test is not None:
        pages = read(test, module.names, module.elements).layouts()
        found = make_metrics(module.names, pages, network, convention)
        real = compute_metrics(pages, {name: found[name] for name in ("alignment", "overlap", "elements")})
        rows = {
            "themselves": real,
            f"the held-out, n = {len(kept)}": compute_metrics(kept, found),
            f"draws, n = {draws}": compute_metrics(drawn[:draws], found),
        }
        out += ["", f"Against the {len(pages)} layouts of {test.rpartition('/')[2]}:", "", table(rows, convention)]
    return "\n".join(out)


def _module(weights: str, steps: "int | None", seed: int) -> "tuple[Layouts, dict[str, Any]]":
    """The model of a weights file, and how its training split its data."""
    path = files.find_file(weights)
    _, about = files.read_tensors(path)
    model = architecture(path, about, {})
    if model["class_path"] != "domains.layouts.Layouts":
        raise GraftError(f"{path} is no model of layouts that graft pretrain or graft fit wrote")
    if steps is not None:
        model["init_args"]["steps"] = steps
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=GraftModule)
    model["init_args"]["seed"] = seed
    parsed = parser.parse_object({"model": model})
    allowed_classes.check_classes(path, parsed.model.as_dict())
    module = parser.instantiate(parsed).model
    assert isinstance(module, Layouts)
    module.load_weights(path)
    return module, _split(about)


def _split(about: dict[str, Any]) -> dict[str, Any]:
    """How training split its data, of what weights say of it; numbers only."""
    training = about.get("training")
    said = training if isinstance(training, dict) else {}
    found = {name: said.get(f"data.init_args.{name}") for name in ("validation", "seed", "count", "limit")}
    return {name: value for name, value in found.items() if type(value) in (int, float)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    plain_yaml.install()
    parser = jsonargparse.ArgumentParser(description=__doc__)
    parser.add_function_arguments(card)
    print(card(**parser.parse_args()))
