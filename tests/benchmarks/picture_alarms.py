"""Score the alarms of pictures as detectors, on runs that make digits worse and on runs that do not.

    python tests/benchmarks/picture_alarms.py --seeds 2

A small flow (two layers of 128) learns the shipped digits of each class. Each run tunes a copy of it as GRAFT does:
320 draws a round, the best eighth of each class accepted, 60 steps on them at a rate of 2e-3. After each round, the
alarms compare 160 draws with those of the reference from the same noise, with their default tolerances.

The digits are spoiled from the first round in which a classifier that no alarm uses gives their class less than three
quarters of the probability that it gives the reference's digits. A detector is one monitored statistic. Its delay is
the number of rounds from there to its first alarm. Runs that are not spoiled give the false alarms.
"""

import argparse
import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from domains.images.classifier import ClassifierFeatures
from domains.images.dataset import digits
from domains.images.metrics import image_metrics
from domains.images.mlp import SmallMLP
from domains.images.pixels import to_pil
from domains.images.rewards import Brightness, ClassProbability, Compressibility, Incompressibility, Symmetry
from graft.evaluation.alarms import Alarms, SampleSet, Statistic, check_tolerances, statistics
from graft.reward import FunctionReward, Reward, oriented, score_objects

SPOILED = 0.75  # share of the class's probability for the reference's digits
DRAWS, CHECKED, ACCEPTED, STEPS, RATE, SAMPLER_STEPS = 320, 160, 0.125, 60, 2e-3, 12


def one_colour(image: Image.Image) -> float:
    """Return minus the standard deviation of the pixels: 0 for a picture of one colour."""
    return -float(torch.tensor(list(image.tobytes()), dtype=torch.float64).std())


def random_number(image: Image.Image) -> float:
    """Return a number in [0, 1) that follows from the pixels and means nothing."""
    return int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:6], "big") / 2**48


REWARDS: dict[str, Callable[[], Reward]] = {
    "small JPEG": lambda: Compressibility(scale=4),
    "large JPEG": lambda: Incompressibility(scale=4),
    "bright": Brightness,
    "dark": lambda: Brightness(dark=True),
    "one colour": lambda: FunctionReward(one_colour, timeout=None),
    "symmetric": Symmetry,
    "random": lambda: FunctionReward(random_number, timeout=None),
    "right class": lambda: ClassProbability(log=True),
}


class Flow:
    """A flow of digits from noise, with the class as its condition.

    Args:
        network: Network of the velocity.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def train(self, pixels: Tensor, labels: Tensor, steps: int, rate: float, generator: torch.Generator) -> None:
        """Train on (n, 1, 8, 8) pixels in [-1, 1] and their labels."""
        adam = torch.optim.Adam(self.network.parameters(), rate)
        for step in range(steps):
            for group in adam.param_groups:
                group["lr"] = rate * min(1, (steps - step) / (0.5 * steps))
            rows = torch.randint(len(pixels), (64,), generator=generator)
            noise, time = torch.randn(64, 1, 8, 8, generator=generator), torch.rand(64, generator=generator)
            mixed = torch.lerp(pixels[rows], noise, time.view(-1, 1, 1, 1))
            found = self.network(mixed, time, {"label": labels[rows]})
            loss = (found - (noise - pixels[rows])).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

    @torch.no_grad()
    def sample(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return (n, 1, 8, 8) pixels from noise, by Heun's method."""
        x, width = noise, 1 / SAMPLER_STEPS
        for i in range(SAMPLER_STEPS):
            time = torch.full((len(x),), 1 - i * width)
            first = self.network(x, time, {"label": labels})
            second = self.network(x - width * first, time - width, {"label": labels})
            x = x - width * (first + second) / 2
        return x


def pictures(pixels: Tensor, labels: Tensor) -> list[Image.Image]:
    return to_pil(pixels, [{"label": int(label)} for label in labels])


def run(reference: Flow, reward: Reward, rounds: int, seed: int) -> dict[str, Any]:
    """Return the round in which the digits became bad, and that of the first alarm of each statistic."""
    generator = torch.Generator().manual_seed(seed)
    features, settings, judge = ClassifierFeatures(), Alarms(), ClassProbability()
    labels = torch.arange(CHECKED) % 10
    noise = torch.randn(CHECKED, 1, 8, 8, generator=generator)

    def metrics() -> Mapping[str, Any]:
        return image_metrics(features, None, True, coloured=False)

    def checked(flow: Flow) -> tuple[SampleSet, float]:
        items = pictures(flow.sample(labels, noise), labels)
        return SampleSet(items, features(items)), float(torch.tensor(judge(items).values).mean())

    base, right = checked(reference)
    own: dict[str, Statistic] = statistics(base, base, metrics)
    flow = Flow(copy.deepcopy(reference.network))
    spoiled: int | None = None
    alarms: dict[str, int | None] = dict.fromkeys(own)
    shares = []
    for number in range(1, rounds + 1):
        classes = torch.arange(DRAWS) % 10
        drawn = flow.sample(classes, torch.randn(DRAWS, 1, 8, 8, generator=generator))
        values = torch.tensor(score_objects(reward, pictures(drawn, classes)).values)
        signed = oriented(values, reward.higher_is_better)
        rows = [torch.where(classes == k)[0] for k in range(10)]
        best = torch.cat([each[signed[each].argsort(descending=True)[: round(ACCEPTED * len(each))]] for each in rows])
        flow.train(drawn[best].clamp(-1, 1), classes[best], STEPS, RATE, generator)
        tuned, probability = checked(flow)
        shares.append(probability / right)
        if spoiled is None and probability < SPOILED * right:
            spoiled = number
        for each in check_tolerances(settings, number, statistics(tuned, base, metrics), own):
            if each.alarm and alarms.get(each.statistic) is None:
                alarms[each.statistic] = number
    return {"spoiled": spoiled, "alarms": alarms, "shares": shares}


def table(rows: "Sequence[tuple[str, int, dict[str, Any]]]") -> str:
    """Return the table of runs and that of detectors, as Markdown."""
    names = sorted({name for _, _, each in rows for name in each["alarms"]})
    titles = ["reward", "seed", "spoiled from round", *(name.replace("_", " ") for name in names)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for reward, seed, each in rows:
        cells = [each["spoiled"] or "never", *(each["alarms"].get(name) or "" for name in names)]
        lines.append("| " + " | ".join(map(str, [reward, seed, *cells])) + " |")
    head = "| detector | detected, of spoiled runs | delay in rounds | false alarms, of the other runs |"
    lines += ["", head, "|---" * 4 + "|"]
    spoiled = [each for _, _, each in rows if each["spoiled"] is not None]
    harmless = [each for _, _, each in rows if each["spoiled"] is None]

    def first(each: dict[str, Any], name: str) -> "int | None":
        if name == "any":
            return min((number for number in each["alarms"].values() if number), default=None)
        found: int | None = each["alarms"].get(name)
        return found

    for name in [*names, "any"]:
        delays = sorted(found - each["spoiled"] for each in spoiled if (found := first(each, name)) is not None)
        delay = f"{delays[0]} to {delays[-1]}, median {delays[len(delays) // 2]}" if delays else ""
        wrong = sum(first(each, name) is not None for each in harmless)
        cells = [name.replace("_", " "), f"{len(delays)} of {len(spoiled)}", delay, f"{wrong} of {len(harmless)}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rewards", nargs="*", default=list(REWARDS), choices=list(REWARDS))
    flags = parser.parse_args()
    found = digits.read_digits()
    pixels = torch.from_numpy(found.pixels).movedim(-1, 1).float() / 127.5 - 1
    torch.manual_seed(0)
    reference = Flow(SmallMLP(64, 128, 2, classes=10))
    reference.train(pixels, torch.from_numpy(found.labels).long(), 1500, 3e-3, torch.Generator().manual_seed(0))
    rows = []
    for seed in range(flags.seeds):
        for reward in flags.rewards:
            rows.append((reward, seed, run(reference, REWARDS[reward](), flags.rounds, seed)))
            print(reward, seed, rows[-1][2], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
