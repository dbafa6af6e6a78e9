"""Trials of the hooks of objects, and of the reward."""

import math
from typing import Any

import torch
from torch import Tensor

from graft.commands.check.trials import COUNT, Trials, describe
from graft.domain import hooks
from graft.errors import GraftError
from graft.reward import Reward, score_objects


class ObjectTrials(Trials):
    """Try the hooks of objects, with three objects and with none."""

    def run(self, items: list[Any], reward: "Reward | None") -> None:
        """Run the trials of hooks on three objects; of the reward if there is one."""
        module = self.module
        self.attempt("key", lambda: ", ".join(repr(module.key(each))[:24] for each in items), "key")
        self.attempt("in_training_set", lambda: self._known(items), "in_training_set")
        self.attempt("features", lambda: self._features(items), "features")
        self.attempt("metrics", lambda: self._metrics(items))
        self.attempt("render", lambda: self._render(items), "render")
        self.attempt(
            "render_html", lambda: f"{len(module.render_html(items, ['a'] * COUNT))} characters", "render_html"
        )
        self.attempt("table_columns", lambda: self._columns(items), "table_columns")
        self.attempt("postprocess", lambda: self._postprocess(items), "postprocess")
        if reward is not None:
            self.attempt("reward", lambda: _score(reward, items))

    def _known(self, items: list[Any]) -> str:
        keys = [self.module.key(each) for each in items]
        for each in (keys, []):
            found = self.module.in_training_set(each)
            if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (len(each),):
                raise GraftError(
                    f"{self.kind}.in_training_set returned {describe(found)} for {len(each)} keys; it must return a "
                    f"bool tensor of shape ({len(each)},)"
                )
        return f"{int(self.module.in_training_set(keys).sum())} of {COUNT} known"

    def _features(self, items: list[Any]) -> str:
        found, none = self.module.features(items), self.module.features([])
        if not bool(found.isfinite().all()):
            raise GraftError(f"{self.kind}.features returned values that are not finite; it must return zeros instead")
        if none.shape[1:] != found.shape[1:]:
            raise GraftError(
                f"{self.kind}.features returned shape {tuple(none.shape)} for no objects; it must return (0, "
                f"{found.shape[1]})"
            )
        return str(tuple(found.shape))

    def _metrics(self, items: list[Any]) -> str:
        values = []
        for name, metric in self.module.metrics().items():
            hooks.update(metric, name, [])
            hooks.update(metric, name, items)
            try:
                hooks.compute(metric, name)
            except GraftError as error:
                if "returned" in str(error):  # a wrong type; other metrics need more objects
                    raise
                name += " (needs more objects)"
            values.append(name)
        return ", ".join(values) or "none"

    def _render(self, items: list[Any]) -> str:
        picture = self.module.render(items, ["a"] * COUNT)
        if picture is not None and not picture.startswith(b"\x89PNG"):
            raise GraftError(f"{self.kind}.render returned bytes that are no PNG; it must return a PNG or None")
        return "no picture" if picture is None else f"{len(picture)} bytes"

    def _columns(self, items: list[Any]) -> str:
        columns = self.module.table_columns(items)
        for name, cells in columns.items():
            if len(cells) != len(items):
                raise GraftError(
                    f"{self.kind}.table_columns returned {len(cells)} cells of {name!r} for {len(items)} objects"
                )
        return ", ".join(columns)

    def _postprocess(self, items: list[Any]) -> str:
        for each in (items, []):
            found = self.module.postprocess(each)
            if len(found) != len(each):
                raise GraftError(f"{self.kind}.postprocess returned {len(found)} objects for {len(each)}")
        return ""


def _score(reward: Reward, items: list[Any]) -> str:
    reward.setup()
    try:
        scores = score_objects(reward, items)
    finally:
        reward.teardown()
    if len(scores.failures) == len(items):
        raise GraftError(f"the reward {reward.name} failed for all {COUNT} objects ({scores.failures[0]})")
    return ", ".join("failed" if math.isnan(value) else f"{value:.4g}" for value in scores.values)
