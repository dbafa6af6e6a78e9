"""Several ranks draw the numbers of one: `seeding.share` splits noise by sample, for every process."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from domains.images.text.process import LatentGaussian
from graft.core import seeding
from graft.core.interval import Interval
from graft.core.state import Condition, State, apply, cat, size, take
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskedCategorical,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    Process,
    TrigFlow,
    UniformCategorical,
    ZeroCenterOfMass,
)

NODES, CLASSES = 5, 4


def flat(process: Process) -> Process:
    """A process on the dict states that `MODEL` acts on."""
    return MultiFieldProcess({"x": process})


PROCESSES: dict[str, Callable[[], Process]] = {
    "gaussian": lambda: flat(Gaussian(CosineSchedule(), "v", (NODES, 3))),
    "centred": lambda: flat(Gaussian(PolynomialSchedule(), "eps", (NODES, 3), warp=2, projection=ZeroCenterOfMass())),
    "logits": lambda: flat(Gaussian(LinearSchedule(), "logits", (NODES, CLASSES), projection=MaskProjection())),
    "rotation": lambda: flat(TrigFlow((NODES, 3))),
    "latents": lambda: flat(LatentGaussian(LinearSchedule(), "velocity", (NODES, 3), eta=0.0)),
    "masked": lambda: flat(MaskedCategorical((NODES, CLASSES), weight="equal")),
    "masked, one position": lambda: flat(MaskedCategorical((CLASSES,))),
    "masked, a grid": lambda: flat(MaskedCategorical((2, NODES, CLASSES))),
    "uniform": lambda: flat(UniformCategorical((NODES, CLASSES), warp=2, projection=MaskProjection())),
    "mixed": lambda: MultiFieldProcess(
        {
            "x": Gaussian(
                PolynomialSchedule(), "x0", (NODES, 3), snr_weight_clamp=(0.2, 100), projection=ZeroCenterOfMass()
            ),
            "h": MaskedCategorical((NODES, CLASSES), projection=MaskProjection()),
            "kind": UniformCategorical((NODES, 3)),
            "size": TrigFlow((1,)),
        }
    ),
}
SPLITS = [(2, 1), (3, 2)]  # ranks, accumulated parts


def fields_of(process: Process) -> dict[str, Process]:
    assert isinstance(process, MultiFieldProcess)
    return process.fields


def given(count: int) -> Condition:
    mask = (torch.arange(NODES) < 3 + torch.arange(count)[:, None] % 3).double()
    return {"mask": mask}


def clean(process: Process, count: int) -> State:
    """States at level 0."""
    condition, generator = given(count), torch.Generator().manual_seed(7)
    out: dict[str, Tensor] = {}
    for name, part in fields_of(process).items():
        shape: tuple[int, ...] = part.shape  # type: ignore[attr-defined]
        if isinstance(part, MaskedCategorical | UniformCategorical):
            kinds = torch.randint(shape[-1], (count, *shape[:-1]), generator=generator)
            x = torch.nn.functional.one_hot(kinds, shape[-1]).double()
        else:
            x = torch.randn(count, *shape, dtype=torch.float64, generator=generator)
        project = part.projection  # type: ignore[attr-defined]
        out[name] = x if project is None else project(x, condition)
    return out


class Network(torch.nn.Module):
    """A linear map of each field, which masked positions reach, too, and the time."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.maps = torch.nn.ParameterDict()
        for name, part in fields_of(process).items():
            last = part.shape[-1]  # type: ignore[attr-defined]
            self.maps[name] = torch.nn.Parameter(torch.randn(last, last, dtype=torch.float64, generator=generator))

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        assert isinstance(state, dict)
        return {
            name: (x + 1) @ self.maps[name] + time.double().reshape(-1, *[1] * (x.ndim - 1))
            for name, x in state.items()
        }


def part_of(generator_of: torch.Generator, rank: int, world: int, part: int, parts: int) -> torch.Generator:
    """The generator as `GraftModule.training_step` gives it to one rank."""
    return seeding.shard_generator(generator_of, rank, world, part, parts)


def rows_of(count: int, rank: int, world: int, part: int, parts: int) -> Tensor:
    """The samples of a step that are this rank's in this part."""
    size_of = count // parts
    return torch.arange(part * size_of, (part + 1) * size_of)[rank::world]


def equal(one: State, other: State) -> bool:
    found = apply(lambda a, b: (a == b).all(), one, other)
    return bool(found if isinstance(found, Tensor) else torch.stack(list(found.values())).all())


@pytest.mark.parametrize(("world", "parts"), SPLITS)
@pytest.mark.parametrize("name", PROCESSES)
def test_noise_is_that_of_one_rank(name: str, world: int, parts: int) -> None:
    """Prior, forward kernel and reverse step: the rows of each rank are its samples' rows of the whole batch."""
    process, count = PROCESSES[name](), 2 * world * parts
    network = Network(process)
    state, condition = clean(process, count), given(count)

    def drawn(rows: Tensor, generator: torch.Generator) -> list[State]:
        some, about = take(state, rows), take(condition, rows)
        assert isinstance(about, dict)
        level = torch.linspace(0.2, 1.0, count, dtype=torch.float64)[rows]
        noisy = process.corrupt(some, level, 0.1, about, generator)
        output = process(network, noisy, 0.5, about)
        following = process.denoise_step(output, noisy, 0.5, 0.25, about, generator)
        return [process.prior(about, generator), noisy, following]

    whole = drawn(torch.arange(count), torch.Generator().manual_seed(0))
    for part in range(parts):
        for rank in range(world):
            rows = rows_of(count, rank, world, part, parts)
            mine = drawn(rows, part_of(torch.Generator().manual_seed(0), rank, world, part, parts))
            assert all(equal(got, take(wanted, rows)) for got, wanted in zip(mine, whole, strict=True))


@pytest.mark.parametrize(("world", "parts"), [(2, 1), (2, 2)])
@pytest.mark.parametrize("name", PROCESSES)
def test_steps_are_those_of_one_rank(name: str, world: int, parts: int) -> None:
    """Five optimizer steps on shared gradients leave the weights of one rank, to the last places of float64."""
    process, count = PROCESSES[name](), 4 * world * parts
    state, condition = clean(process, count), given(count)
    networks = [Network(process), Network(process)]
    for step in range(5):
        for network, (ranks, pieces) in zip(networks, ((1, 1), (world, parts)), strict=True):
            network.zero_grad()
            for part in range(pieces):
                for rank in range(ranks):
                    rows = rows_of(count, rank, ranks, part, pieces)
                    generator = part_of(seeding.make_generator(0, "train", step), rank, ranks, part, pieces)
                    some, about = take(state, rows), take(condition, rows)
                    assert isinstance(about, dict)
                    level = seeding.stratified_levels(len(rows), Interval(low=0.1), generator)
                    loss = process.loss(network, some, level, 0.1, about, None, generator).mean()
                    (loss / (ranks * pieces)).backward()
            with torch.no_grad():
                for weight in network.parameters():
                    assert weight.grad is not None and bool(weight.grad.abs().max() > 0)
                    weight -= 0.1 * weight.grad / (1 + weight.grad.norm())
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert float((one - other).detach().abs().max()) < 1e-12


def test_ranks_draw_different_numbers() -> None:
    """The rows of two ranks together are the batch, in order, and no row comes twice."""
    process = UniformCategorical((8, CLASSES))
    x = torch.zeros(6, 8, CLASSES)
    whole = process.noise(x, None, torch.Generator().manual_seed(0))
    first, second = (
        process.noise(x[:3], None, seeding.shard_generator(torch.Generator().manual_seed(0), rank, 2))
        for rank in (0, 1)
    )
    assert not equal(first, second)
    assert torch.equal(torch.stack([first, second], 1).flatten(0, 1), whole)
    assert size(cat([first, second])) == 6
