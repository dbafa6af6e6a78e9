"""``CARD.md`` of a run: the card of the tuned weights, with the front matter that model hubs read."""

from collections.abc import Sequence
from typing import Any

from graft.report.run import HEAD, comparison_rows, run_facts


def model_card(summary: dict[str, Any], model: str, reference: str, command: str) -> str:
    """Return the card of tuned weights as Markdown.

    Args:
        summary: Content of ``summary.json``.
        model: Class of the model by its path.
        reference: Name of the weights that were tuned.
        command: Command that repeats the run; "" for a run from Python.
    """
    facts = [("model", f"`{model}`"), ("reference", f"`{reference}`"), *run_facts(summary)]
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    repeated = f"## Repeat it\n\n```bash\n{command}\n```\n\n" if command else ""
    count = summary["tuned"]["n"]
    return f"""---
library_name: graft
tags: [graft, fine-tuned, rejection-sampling]
---

# tuned.safetensors

Weights that graft tuned to the reward {_cell(summary["reward"]["name"])}. The tuned network samples from level
{summary["upper_level"]:.4g} to {summary["level"]:.4g}, and the reference samples the rest: both are needed.

{_table(("", ""), [*facts, ("versions", versions)])}

## Figures

{count:,} samples of each, from the same noise; shares are fractions, ± is one standard error.

{_table(HEAD, comparison_rows(summary))}

## Use

```bash
graft sample --weights tuned.safetensors -n 16 --out FILE
```

```python
import graft

objects = graft.sample(graft.from_pretrained("tuned.safetensors"), 16, seed=0)
```

{repeated}## Limits

The model was tuned to one reward, which it may satisfy in ways that the reward does not measure. Compare the metrics
above, and look at samples before you use them.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
