"""The lines of an exported model card load the adapter and switch it off at the hand-over, for every family."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Any

import families
import pytest
import torch

from domains.images.text import card
from graft.core.seeding import make_generator
from graft.network import LoRA
from graft.sampler import run_stages

REFUSED = ("CogView3+", "Kandinsky 2.2", "Stable Audio")
QUICK = ("PixArt-Sigma",)  # diffusers loads no adapters into its network, and its call has the older callback
CASES = [
    pytest.param(name, True, marks=() if name in QUICK else pytest.mark.slow)
    for name in families.FAMILIES
    if name not in REFUSED
]


@pytest.mark.parametrize(("name", "callback"), [*CASES, (QUICK[0], False)])
def test_card_of_a_family(name: str, callback: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines give graft's sample, also where the pipeline's call takes no callback."""
    if not callback:
        monkeypatch.setattr(card, "CALLBACKS", ())
    lora = LoRA(2, 4, "all-linear")
    _, model = families.benchmark().tried(name, families.FAMILIES[name], folder, lora=lora, level=0.5)
    torch.manual_seed(0)
    for key, parameter in model.policy.backbone.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter)
    condition = {"prompt": torch.tensor([1])}
    with model.policy.eval_weights():
        expected, reference = (
            run_stages(model.policy.sampling_stages(which), condition, 4, generator=make_generator(7)).state
            for which in ("tuned", "reference")
        )
    model.export(folder / "run")
    run = folder / "run/diffusers"
    (lines,) = re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "text_to_image" not in lines and ("call_after_steps(pipe" in lines) is not callback
    loading, _, call = lines.replace('run = "."', f"run = {str(run)!r}").rpartition("\nimage = ")
    names: dict[str, Any] = {}
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("handover", None)
    exec(compile(loading, "card", "exec"), names)
    scheduler, ends = names["pipe"].scheduler, list[Any]()
    step = scheduler.step
    scheduler.step = functools.wraps(step)(lambda *given, **more: ends.append(step(*given, **more)) or ends[-1])
    names |= {"prompt": model.prompts[1].text, "generator": make_generator(7)}
    exec(compile("image = " + call.replace('"PROMPT"', "prompt, generator=generator"), "card", "exec"), names)
    found = ends[-1][0].float().reshape(expected.shape)
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * size)
    assert float((found - reference).abs().max()) > 1e-3 * size
