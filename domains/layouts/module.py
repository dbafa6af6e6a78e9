"""The layout domain: a `graft.GraftModule` of elements on a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.layouts import layout, reference_statistics
from domains.layouts.conditioning import Task, merge_given, to_boxes, unconditional
from domains.layouts.data import LayoutData, batch
from domains.layouts.features import layout_features as features_of
from domains.layouts.features import network_of
from domains.layouts.files import write_layouts
from domains.layouts.partial_layout import PartialLayout
from domains.layouts.partial_layout import read_partial_layout as read_brief
from domains.layouts.readers import LayoutSet, read_layouts
from domains.layouts.render import png
from graft import GraftError, GraftModule
from graft.core.distributed import rank_zero_print
from graft.core.state import Condition, State
from graft.dataloaders.in_memory import pretraining_data
from graft.io.invalid_records import describe_invalid
from graft.process import CosineSchedule, Gaussian, MaskProjection, MultiFieldProcess, Process
from graft.runs.architecture import require_network

THINNEST = 1e-3  # smallest side of a box, fraction of the page
EXAMPLES = 2000  # generated pages that tasks take their fixed parts from


class Layouts(GraftModule):
    """Sets of elements on a page, each a class and a box.

    The state is {"box": (B, N, 4) standardised centres and sizes, "label": (B, N, classes) a scaled one-hot}. The
    condition holds the number of elements and the fixed part (`domains.layouts.conditioning`). Objects are
    `domains.layouts.layout.Layout`.

    Args:
        backbone: Network, as in `graft.GraftModule`.
        process: Process; ``null`` without weights: `default_process`.
        classes: Names of the classes, their number, or ``rico``; PubLayNet's if not given.
        task: Fixed part of draws: ``unconditional``: the number of elements, from the training data; other tasks fix
            parts of layouts of ``examples``.
        examples: Source of layouts for a task: a file, or ``generated``.
        brief: JSON file of the fixed part of every draw (`domains.layouts.partial_layout`); ``task`` then has no
            effect.
        convention: Convention of the metrics: ``layoutformer`` (up to 20 elements) or ``layoutdm`` (up to 25).
        features: File of a feature network of these classes, written by `domains.layouts.train_features`. The shipped
            one has PubLayNet's classes; without a network of its own another set of classes has no features, no FID and
            no diversity.
        **kwargs: Arguments of `graft.GraftModule`.
    """

    file_suffix = ".json"
    file_suffixes = (".json", ".svg", ".png")

    def __init__(
        self,
        backbone: "nn.Module | None" = None,
        process: "Process | None" = None,
        *args: Any,
        classes: "list[str | int] | str | int | None" = None,
        task: Task = "unconditional",
        examples: str = "generated",
        brief: "str | None" = None,
        convention: str = "layoutformer",
        features: "str | None" = None,
        **kwargs: Any,
    ) -> None:
        weights = args[0] if args else kwargs.get("weights")
        backbone, process = require_network(
            backbone, process, weights, lambda: self.default_process(classes, convention)
        )
        super().__init__(backbone, process, *args, **kwargs)
        self.names = layout.classes_of(classes)
        fields = self.policy.process.fields if isinstance(self.policy.process, MultiFieldProcess) else {}
        box, label = fields.get("box"), fields.get("label")
        shape = getattr(label, "shape", None)
        if not isinstance(box, Gaussian) or shape != (box.shape[0], len(self.names)):
            raise GraftError(
                "layouts need a MultiFieldProcess of two fields, box of shape [N, 4] and label of shape "
                f"[N, {len(self.names)}] ({', '.join(self.names)})"
            )
        self.elements, self.scale = box.shape[0], label.one_hot_scale if isinstance(label, Gaussian) else 1.0
        self.task, self.examples, self.convention = task, examples, convention
        self._network = (network_of(self.names, features),)  # a tuple, so that it is not a part of the model
        self._features_reported = False
        self.partial_layout: PartialLayout | None = None
        self._pages: LayoutSet | None = None
        if brief is not None:
            self.load_condition(Path(brief))

    @staticmethod
    def default_process(
        classes: "list[str | int] | str | int | None" = None, convention: str = "layoutformer"
    ) -> MultiFieldProcess:
        """Return the process of layouts of up to 20 elements, or of up to 25 in the convention ``layoutdm``.

        Args:
            classes: Names of the classes, as in the constructor.
            convention: Convention of the metrics, as in the constructor.
        """
        size, schedule = 25 if convention == "layoutdm" else 20, CosineSchedule()
        box = Gaussian(schedule, "v", (size, 4), 1.0, 2.0, projection=MaskProjection("free_box"))
        # The one-hot is large, so that the classes are decided before the places.
        shape = size, len(layout.classes_of(classes))
        label = Gaussian(schedule, "logits", shape, 1.0, 2.0, (0.2, 10.0), 2.0, MaskProjection("free_label"))
        return MultiFieldProcess({"box": box, "label": label}, {"box": 1.0, "label": 0.1})

    @override
    def setup(self, stage: str) -> None:
        """Take the numbers of elements and statistics of real layouts from the data in pre-training."""
        self._report_features()
        data = pretraining_data(self, LayoutData, stage)
        if data is not None:
            if data.names != self.names or data.elements > self.elements:
                raise GraftError(
                    f"the data has up to {data.elements} elements of {', '.join(data.names)}, the model knows "
                    f"{self.elements} of {', '.join(self.names)}"
                )
            counts = torch.bincount(torch.from_numpy(data.train_set.counts), minlength=self.elements + 1)
            self.dataset_statistics = {"histogram": counts} | reference_statistics.compute_statistics(
                data.val_set, self._network[0]
            )

    def _report_features(self) -> None:
        """Print once why there are no features, or no FID."""
        if self._features_reported:
            return
        self._features_reported = True
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

    @override
    def load_condition(self, path: Path) -> None:
        """Fix the elements of a JSON file in every draw."""
        self.partial_layout = read_brief(path, self.names, self.elements)

    @override
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Return the fixed part of the user's file or of an example, or only numbers of elements."""
        if self.partial_layout is not None:
            return self.partial_layout.condition(count, self.elements, len(self.names))
        if self.task != "unconditional":
            if self._pages is None:
                self._pages = read_layouts(self.examples, self.names, self.elements, EXAMPLES)
                if missing := describe_invalid(self._pages.named):
                    rank_zero_print(f"{len(self._pages)} layouts from {self.examples} ({missing})")
            rows = torch.randint(len(self._pages), (count,), generator=generator)
            condition: Condition = batch(self._pages.take(rows.numpy()), self.task, generator)["condition"]
            return condition
        drawn = torch.multinomial(
            self.dataset_statistics["histogram"].double(), count, replacement=True, generator=generator
        )
        return unconditional((torch.arange(self.elements) < drawn[:, None]).float(), len(self.names))

    @override
    def group(self, condition: Condition) -> Tensor:
        """Return (B,) number of elements."""
        return condition["mask"].sum(1).long()

    @override
    def encode(self, batch: Any) -> tuple[State, Condition]:
        """Return the state of a batch of `LayoutData`; the fixed part is 0."""
        condition = batch["condition"]
        label = self.scale * torch.nn.functional.one_hot(batch["label"], len(self.names)).to(batch["box"])
        free = {"box": condition["free_box"], "label": condition["free_label"][..., None]}
        return {"box": batch["box"] * free["box"], "label": label * free["label"]}, condition

    @override
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Return layouts with the fixed part put in."""
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

    @override
    def key(self, item: Any) -> str:
        return layout.layout_key(item)

    @override
    def metrics(self) -> Mapping[str, Metric]:
        """Return metrics of quality and of distance to held-out real layouts.

        `reference_statistics` makes them.
        """
        return reference_statistics.make_metrics(self.dataset_statistics, self.names, self.convention, self._network[0])

    @override
    def supports(self, hook: str) -> bool:
        return super().supports(hook) and (hook != "features" or self._network[0] is not None)

    @override
    def features(self, items: Sequence[Any]) -> Tensor:
        """Return (n, width) features of the shipped network, or of the user's own.

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

    @override
    def caption(self, item: Any) -> str:
        """Return the number of elements of a layout."""
        return f"{len(item)} elements"

    @override
    def table_columns(self, items: Sequence[Any]) -> Mapping[str, Sequence[str]]:
        """Return the numbers of elements of each class."""
        counts = [Counter(sorted(item.classes)) for item in items]
        return {"classes": [", ".join(f"{n} {name}" for name, n in count.items()) for count in counts]}

    @override
    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        return png(items, legends)

    @override
    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write COCO JSON, SVG or PNG."""
        write_layouts(items, path, rewards)
