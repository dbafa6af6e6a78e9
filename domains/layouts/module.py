"""Layouts: the domain plugged into `graft.GraftModule`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torchmetrics import Metric

from domains.layouts import layout, reference_statistics
from domains.layouts.conditioning import Task, merge_given, to_boxes, unconditional
from domains.layouts.data import LayoutData, batch
from domains.layouts.features import features as features_of
from domains.layouts.features import network_of
from domains.layouts.files import write
from domains.layouts.partial_layout import PartialLayout
from domains.layouts.partial_layout import read as read_brief
from domains.layouts.readers import LayoutSet, describe_invalid, read
from domains.layouts.render import png
from graft import GraftError, GraftModule
from graft.distributed import rank_zero_print
from graft.process import Gaussian, MultiFieldProcess
from graft.state import Condition, State

THINNEST = 1e-3  # of the page: no box is thinner
EXAMPLES = 2000  # pages to take conditions from


class Layouts(GraftModule):
    """Sets of elements on a page, each a class and a box.

    The state is {"box": (B, N, 4) standardised centres and sizes, "label": (B, N, classes) a scaled one-hot}; the
    condition says how many elements there are and what of them is given, see `domains.layouts.conditioning`. Objects
    are `domains.layouts.layout.Layout`.

    Args:
        classes: Names of the classes, their number, or ``rico``; PubLayNet's if not given.
        task: What is given to draws: ``unconditional``: the number of elements, from the training data; else what the
            task gives of layouts of ``examples``.
        examples: Where a task takes layouts from: a file, or ``generated``.
        brief: A JSON file of what is given to every draw, see `domains.layouts.partial_layout`; ``task`` has no effect
            then.
        convention: Of the metrics: ``layoutformer`` (up to 20 elements) or ``layoutdm`` (up to 25).
        features: File of a feature network of these classes, which `domains.layouts.train_features` writes. The one
            that ships is of PubLayNet's; other classes have no features without one, and so no FID and no diversity.
        **kwargs: See `graft.GraftModule`.
    """

    file_suffix = ".json"
    file_suffixes = (".json", ".svg", ".png")

    def __init__(
        self,
        *args: Any,
        classes: "list[str | int] | str | int | None" = None,
        task: Task = "unconditional",
        examples: str = "generated",
        brief: "str | None" = None,
        convention: str = "layoutformer",
        features: "str | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.names = layout.classes_of(classes)
        fields = self.process.fields if isinstance(self.process, MultiFieldProcess) else {}
        box, label = fields.get("box"), fields.get("label")
        shape = getattr(label, "shape", None)
        if not isinstance(box, Gaussian) or shape != (box.shape[0], len(self.names)):
            raise GraftError(
                "layouts need a MultiFieldProcess of two fields, box of shape [N, 4] and label of shape "
                f"[N, {len(self.names)}] ({', '.join(self.names)})"
            )
        self.elements, self.scale = box.shape[0], label.one_hot_scale if isinstance(label, Gaussian) else 1.0
        self.task, self.examples, self.convention = task, examples, convention
        self._network = (network_of(self.names, features),)  # in a tuple: it is no part of the model
        self._features_said = False
        self.partial_layout: PartialLayout | None = None
        self._pages: LayoutSet | None = None
        if brief is not None:
            self.load_condition(Path(brief))

    def setup(self, stage: str) -> None:
        """Take the number of elements from the data when training on data."""
        self._say_features()
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self.reference_file is None and isinstance(data, LayoutData):
            if data.names != self.names or data.elements > self.elements:
                raise GraftError(
                    f"the data has up to {data.elements} elements of {', '.join(data.names)}, the model knows "
                    f"{self.elements} of {', '.join(self.names)}"
                )
            counts = torch.bincount(torch.from_numpy(data.training.counts), minlength=self.elements + 1)
            self.dataset_statistics = {"histogram": counts} | reference_statistics.compute_statistics(
                data.held_out, self._network[0]
            )

    def _say_features(self) -> None:
        """Say once why there are no features, or no FID."""
        if self._features_said:
            return
        self._features_said = True
        (network,) = self._network
        if network is None:
            rank_zero_print(
                f"the feature network that ships is of other classes than {', '.join(self.names)}: no FID, diversity "
                "or distance of features; model.features names one of your own (domains.layouts.train_features)"
            )
        elif "real_moments" in self.dataset_statistics and not reference_statistics.comparable(
            self.dataset_statistics, network
        ):
            rank_zero_print(
                "the reference's real layouts were summarised by another feature network than model.features: no FID"
            )

    def load_condition(self, path: Path) -> None:
        """Draw what completes a brief."""
        self.partial_layout = read_brief(path, self.names, self.elements)

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """The brief; what the task gives of an example; else a number of elements like the training data's."""
        if self.partial_layout is not None:
            return self.partial_layout.condition(count, self.elements, len(self.names))
        if self.task != "unconditional":
            if self._pages is None:
                self._pages = read(self.examples, self.names, self.elements, EXAMPLES)
                if missing := describe_invalid(self._pages.named):
                    rank_zero_print(f"{len(self._pages)} layouts from {self.examples} (left out: {missing})")
            rows = torch.randint(len(self._pages), (count,), generator=generator)
            condition: Condition = batch(self._pages.take(rows.numpy()), self.task, generator)["condition"]
            return condition
        drawn = torch.multinomial(
            self.dataset_statistics["histogram"].double(), count, replacement=True, generator=generator
        )
        return unconditional((torch.arange(self.elements) < drawn[:, None]).float(), len(self.names))

    def group(self, condition: Condition) -> Tensor:
        """(B,) number of elements."""
        return condition["mask"].sum(1).long()

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """State of a batch of `LayoutData`: what is given is 0."""
        condition = batch["condition"]
        label = self.scale * torch.nn.functional.one_hot(batch["label"], len(self.names)).to(batch["box"])
        free = {"box": condition["free_box"], "label": condition["free_label"][..., None]}
        return {"box": batch["box"] * free["box"], "label": label * free["label"]}, condition

    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Layouts, with what is given in its place."""
        assert isinstance(state, dict)
        box, label = merge_given(state["box"], state["label"], condition)
        box = to_boxes(box.double())
        middle, half = (box[..., :2] + box[..., 2:]) / 2, ((box[..., 2:] - box[..., :2]) / 2).clamp(min=THINNEST / 2)
        boxes, labels = torch.cat([middle - half, middle + half], -1).cpu().numpy(), label.argmax(-1).cpu().numpy()
        given = ((condition["free_box"].sum(-1) == 0) & (condition["free_label"] == 0)).cpu().numpy()
        counts = self.group(condition).tolist()
        items = [layout.Layout(labels[i, :n], boxes[i, :n], self.names, given[i, :n]) for i, n in enumerate(counts)]
        page = self.partial_layout.page if self.partial_layout is not None else None
        return items if page is None else [replace(item, page=page) for item in items]

    def key(self, item: Any) -> str:
        """The set of its elements, on a grid of 128 places."""
        return layout.key(item)

    def metrics(self) -> Mapping[str, Metric]:
        """Of quality, and of nearness to the layouts that the reference's training held out; see `law.py`."""
        return reference_statistics.metrics(self.dataset_statistics, self.names, self.convention, self._network[0])

    @property
    def has_features(self) -> bool:
        """Whether there is a feature network of the model's classes."""
        return self._network[0] is not None

    def features(self, items: Sequence[Any]) -> Tensor:
        """Return (n, width) features of the network that ships, or of the user's own; see `features.py`.

        Raises:
            GraftError: There is no network of the model's classes.
        """
        (network,) = self._network
        if network is None:
            raise GraftError(
                f"there is no feature network of layouts of the classes {', '.join(self.names)}: train one with "
                "domains.layouts.train_features and name it with model.features"
            )
        return features_of(items, network)

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        """Collection in a grid."""
        return png(items, legends)

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """COCO JSON, SVG or PNG."""
        write(items, path, rewards)
