"""Rate the draws of a round: people in a browser, then a file of scored draws for ``data.source``."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from graft.core import seeding
from graft.domain import Domain
from graft.errors import GraftError
from graft.io.atomic import write_with
from graft.io.fingerprint import fingerprint_hash
from graft.rating import Card, RatingServer, RatingSession, RatingsFile, Scale, cards_of
from graft.rating.session import ON_A_SCREEN
from graft.rounds import RoundStore
from graft.rounds.rollout_cache import WHICH
from graft.rounds.scored_draws import SUFFIX, ScoredDraws, write_scored_draws
from graft.rounds.scoring import store_groups
from graft.runs.contents import refuse_linked_round
from graft.runs.lock import lock_folder

FOLDER = "ratings"  # folder of the ratings in the folder of a run
LABEL = "rating"  # name of the scores in the file


def newest_round(folder: Path) -> int:
    """Return the number, from 1, of a run's newest round whose draws are on disk.

    Raises:
        GraftError: The run keeps no draws.
    """
    names = [path.parent.name for path in folder.glob("rounds/*/*_00000.safetensors")]
    if not any(name.isdigit() for name in names):
        raise GraftError(f"{folder} keeps no draws of a round: rate the folder of a run of graft fit")
    return max(int(name) for name in names if name.isdigit()) + 1


class RatedRound:
    """A round of a run whose draws people rate.

    Args:
        domain: Domain of the draws.
        folder: Folder of the run.
        number: Number of the round, counted from 1.
        scale: Scale of the ratings.

    Attributes:
        ratings: The ratings so far, ``ratings/round_<n>.jsonl`` of the run.
        path: File of scored draws, ``ratings/round_<n>.safetensors`` of the run.

    Raises:
        GraftError: The round has no draws on disk, or another process rates the run.
    """

    def __init__(self, domain: Domain, folder: Path, number: int, scale: Scale) -> None:
        round_dir, out = folder / "rounds" / str(number - 1), folder / FOLDER
        for place in (round_dir, out):
            refuse_linked_round(place)
        self.domain, self.store = domain, RoundStore.on_disk(round_dir)
        out.mkdir(exist_ok=True)
        _hold(out)
        self.ratings = RatingsFile(out / f"round_{number}.jsonl", scale)
        self.path = out / f"round_{number}{SUFFIX}"
        # another round in the same folder must not take these ratings
        contents = [self.store.metadata(index).get("sha256") for index in range(len(self.store.chunk_sizes))]
        self._mark = fingerprint_hash(contents)[:12]

    def name(self, place: int) -> str:
        """Return the identity of a draw in the file of ratings."""
        return f"{place}-{self._mark}"

    def rated(self) -> list[int]:
        """Return the positions of the rated draws of this round, ascending."""
        matches = (re.fullmatch(rf"(\d{{1,9}})-{self._mark}", name) for name in self.ratings.values)
        return sorted(place for match in matches if match and (place := int(match[1])) < sum(self.store.chunk_sizes))

    def objects(self, places: Sequence[int]) -> list[Any]:
        """Return the objects of draws, in the order of ``places``."""
        chosen = sorted(places)
        draws = self.store.take(torch.tensor(chosen, dtype=torch.long))
        items = dict(zip(chosen, self.domain.decode(draws.state, draws.condition), strict=True))
        return [items[place] for place in places]

    def cards(self, count: int, seed: int) -> list[Card]:
        """Return cards of ``count`` random draws, by condition.

        More draws of the same seed begin with the same ones.
        """
        groups = store_groups(self.domain, self.store)
        places = by_screens(groups, seeding.make_generator(seed, "rate"))[:count]
        items = self.objects(places)
        conditions = [self._condition(item, groups, place) for item, place in zip(items, places, strict=True)]
        self.domain.render(items[:1])  # so that an error of the hook appears before the page
        return cards_of(self.domain, items, [self.name(place) for place in places], conditions)

    def _condition(self, item: Any, groups: Tensor, place: int) -> str:
        if self.domain.supports("caption"):
            return self.domain.caption(item)
        return f"condition {int(groups[place])}" if bool((groups != groups[0]).any()) else "draws"

    def write(self, out: "Path | None" = None) -> Counter[int]:
        """Write the file of scored draws, and return the number of draws by rating.

        Args:
            out: A further file, in a format of the domain.

        Raises:
            GraftError: No draw is rated, or a file cannot be written.
        """
        places = self.rated()
        values = [self.ratings.values[self.name(place)] for place in places]
        if not places:
            raise GraftError("no draw is rated: rate some, and the file is written")
        items = self.objects(places)
        keys = [self.domain.key(item) for item in items] if self.domain.supports("key") else [""] * len(items)
        origin = {name: value for name, value in self.store.metadata(0)["origin"].items() if name not in WHICH}
        draws = ScoredDraws(self.store.take(torch.tensor(places)), torch.tensor(values).double(), keys, LABEL, origin)
        write_scored_draws(self.path, draws)
        if out is not None:
            write_with(out, partial(self.domain.write, items, rewards=[float(value) for value in values]))
        return Counter(values)


def _hold(folder: Path) -> None:
    """Lock the folder of ratings; raise GraftError if another process rates the run."""
    try:
        lock_folder(folder)
    except GraftError:
        raise GraftError(f"another process shows the draws of {folder.parent}: end it, and start again") from None


def by_screens(groups: Tensor, generator: Generator) -> list[int]:
    """Return all positions in random order, in runs of one condition that fill a screen.

    Any first part of the order is a random sample with each condition in proportion. A condition of few draws stands
    there whole, so that its draws are compared with each other.

    Args:
        groups: (n,) integer of the condition of each draw.
        generator: Source of the order.
    """
    screens = list[tuple[float, list[int]]]()
    for group in torch.unique(groups):
        places = (groups == group).nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=generator)]
        parts, start = places.split(ON_A_SCREEN), float(torch.rand((), generator=generator))
        screens += [((i + start) / len(parts), part.tolist()) for i, part in enumerate(parts)]
    return [place for _, part in sorted(screens) for place in part]


def rate(rated: RatedRound, title: str, count: int, seed: int, port: int) -> None:
    """Serve the page until the person ends it, or until Ctrl-C; the ratings are kept.

    Args:
        rated: The round.
        title: Title of the page.
        count: Number of draws on the page.
        seed: Seed of the choice of draws.
        port: Port of the page; 0 for a free one.
    """
    session = RatingSession(title, rated.domain, rated.ratings)
    session.show(rated.cards(count, seed))
    server = RatingServer(session, port)
    shown = len(session.state()["ratings"])
    many = sum(len(screen["draws"]) for screen in session.state()["screens"])
    print(
        f"graft: {many} draws, {shown} of them rated; open this address in a browser of this machine (Ctrl-C ends, "
        f"ratings are kept):\n{server.url}",
        flush=True,
    )
    try:
        session.wait()
    except KeyboardInterrupt:
        print()
    finally:
        server.close()
