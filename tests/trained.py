"""Settings of training, as tests give them to a `graft.GraftModule`."""

from functools import partial
from typing import Any

from graft.optimizers import FusedAdamW, WarmupCosine
from graft.policy import Tuning
from graft.rollouts import Rollouts
from graft.rollouts.settings import Evaluation, RewardBudget, Storage

GROUPS = {"budget": RewardBudget, "evaluation": Evaluation, "storage": Storage}


def training(
    lr: float = 1e-3, warmup_steps: int = 0, cosine: bool = False, ema_decay: "float | None" = None
) -> dict[str, Any]:
    """Return the arguments of a module that is trained with AdamW."""
    schedule = {"lr_scheduler": partial(WarmupCosine, warmup_steps=warmup_steps)} if cosine else {}
    return {"optimizer": partial(FusedAdamW, lr=lr), **schedule, "tuning": Tuning(ema_decay=ema_decay)}


def rollouts_of(*args: Any, **settings: Any) -> Rollouts:
    """Return `graft.Rollouts` with the settings of its groups given flat, such as ``test_draws=8``."""
    for name, group in GROUPS.items():
        own = {key: settings.pop(key) for key in [*settings] if key in group.__dataclass_fields__}
        if own:
            settings[name] = group(**own)
    return Rollouts(*args, **settings)
