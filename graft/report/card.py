"""``CARD.md`` of a run: the card of its weights, with the front matter that model hubs read."""

from collections.abc import Sequence
from typing import Any

from graft.io.markdown import markdown_cell, markdown_table
from graft.report.run import HEAD, comparison_rows, run_facts
from graft.report.tables import format_name, format_number

Facts = Sequence[tuple[str, str]]
"""(name, value) rows."""


def tuned_card(summary: dict[str, Any], model: str, reference: str, command: str) -> str:
    """Return the card of the weights of ``graft fit`` as Markdown.

    Args:
        summary: Content of ``summary.json``.
        model: Class of the model by its path.
        reference: Name of the weights that were tuned.
        command: Command that repeats the run; "" for a run from Python.
    """
    return render_card(
        "tuned.safetensors",
        ("fine-tuned", "rejection-sampling"),
        f"Weights that graft tuned to the reward {markdown_cell(summary['reward']['name'])}. The tuned network samples "
        f"from level {summary['upper_level']:.4g} to {summary['level']:.4g}, and the reference samples the rest: both "
        "are needed.",
        [("model", f"`{model}`"), ("reference", f"`{reference}`"), *run_facts(summary)],
        f"{summary['tuned']['n']:,} samples of each, from the same noise; shares are fractions, ± is one standard "
        f"error.\n\n{markdown_table(HEAD, comparison_rows(summary))}",
        "The model was tuned to one reward, which it may satisfy in ways that the reward does not measure. Compare the "
        "metrics above, and look at samples before you use them.",
        summary,
        command,
    )


def reference_card(summary: dict[str, Any], model: str, source: str, command: str) -> str:
    """Return the card of the weights of ``graft pretrain`` as Markdown.

    Args:
        summary: Content of ``summary.json``.
        model: Class of the model by its path.
        source: Name of the training data; "" if they have none.
        command: Command that repeats the run; "" for a run from Python.
    """
    figures = [(format_name(name), format_number(x)) for name, x in single_figures(summary["reference"]) if name != "n"]
    facts = [
        ("model", f"`{model}`"),
        *([("training data", f"`{source}`")] if source else []),
        ("optimizer steps", f"{summary['steps']:,}"),
        ("parameters", f"{summary['parameters']:,}"),
        ("seconds", format_number(summary["seconds"])),
        ("seed", str(summary["seed"])),
    ]
    return render_card(
        "reference.safetensors",
        ("pre-trained",),
        "Weights that graft trained on data. They are a reference: graft fine-tunes them with `model.weights`.",
        facts,
        f"{summary['reference']['n']:,} samples; shares are fractions.\n\n{markdown_table(('', 'reference'), figures)}",
        "The model generates objects like its training data, with their gaps and their errors. State the licence of "
        "the data where you publish the weights.",
        summary,
        command,
    )


def single_figures(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the (name, value) of each metric that gives one number."""
    return [(name, value) for name, value in metrics.items() if not isinstance(value, dict)]


def render_card(
    file: str,
    tags: Sequence[str],
    about: str,
    facts: Facts,
    figures: str,
    limits: str,
    summary: dict[str, Any],
    command: str,
) -> str:
    """Return a card of weights as Markdown.

    Args:
        file: Name of the weights file.
        tags: Tags for model hubs, after ``graft``.
        about: The paragraph that says what the weights are.
        facts: Rows about the run.
        figures: Markdown with the figures of the samples.
        limits: The paragraph on limits.
        summary: Content of ``summary.json``.
        command: Command that repeats the run; "" for a run from Python.
    """
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    repeated = f"## Repeat it\n\n```bash\n{command}\n```\n\n" if command else ""
    return f"""---
library_name: graft
tags: [{", ".join(("graft", *tags))}]
---

# {file}

{about}

{markdown_table(("", ""), [*facts, ("versions", versions)])}

## Figures

{figures}

## Use

```bash
graft sample --weights {file} -n 16 --out FILE
```

```python
import graft

objects = graft.sample(graft.from_pretrained("{file}"), 16, seed=0)
```

{repeated}## Limits

{limits}
"""
