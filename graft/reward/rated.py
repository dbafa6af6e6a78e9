"""A reward that people give: they rate the draws in a browser while the run waits."""

import hashlib
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from typing_extensions import override

from graft.domain import Domain
from graft.errors import GraftError
from graft.rating import Card, RatingServer, RatingSession, RatingsFile, cards_of
from graft.rating.scale import find_scale
from graft.reward.base import BatchReward
from graft.reward.scores import Scores

FILE = "ratings/rated.jsonl"  # in the folder of the run


class Rated(BatchReward):
    """Ratings of people, who see the draws of a batch on a page of this machine while the run waits.

    Draws that look the same under the same condition are rated once, and so are draws that come again in a resumed run.
    Every draw that is scored has to be rated, those of validation and of the final comparison included: set small
    numbers in ``data.draws``, ``data.evaluation`` and ``data.batch_size``, which is the number of draws on the page.

    Args:
        scale: Scale of the ratings: ``keep`` for 0 and 1, ``stars`` for 1 to 5.
        path: File of the ratings; ``null`` for ``ratings/rated.jsonl`` in the run's folder.
        port: Port of the page; 0 for a free one.

    Raises:
        GraftError: There is no such scale.
    """

    name = "rating"

    def __init__(self, scale: str = "keep", path: "str | None" = None, port: int = 0) -> None:
        self._scale, self._given, self._port = find_scale(scale, "the scale of Rated"), path, port
        self._domain: Domain | None = None
        self._path = None if path is None else Path(path)
        self._ratings: RatingsFile | None = None
        self._session: RatingSession | None = None
        self._server: RatingServer | None = None
        self._token = secrets.token_urlsafe(32)  # an open page stays open after a round

    @property
    @override
    def worst_value(self) -> float:
        return float(min(self._scale.choices))

    @override
    def identity(self) -> Any:
        """Return the scale and the file: the port changes no rating."""
        return {"class": "graft.reward.Rated", "scale": self._scale.name, "path": self._given}

    @override
    def bind(self, domain: Domain, folder: "Path | None" = None) -> None:
        self._domain = domain
        if self._given is None:
            path = None if folder is None else folder / FILE
            if path != self._path:
                self._path, self._ratings, self._session = path, None, None

    @override
    def setup(self) -> None:
        if self._domain is None or self._path is None:
            raise GraftError(
                "graft.reward.Rated shows the draws of a run, and there is none: use it with graft fit, or rate a "
                "finished run with graft rate"
            )
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if several and torch.distributed.get_world_size() > 1:
            raise GraftError("graft.reward.Rated asks people from one process: use --trainer.devices 1")

    @override
    def teardown(self) -> None:
        """Close the page; it opens again at the same address."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Return the ratings of objects, after people have given those that are missing."""
        self.setup()
        assert self._domain is not None and self._path is not None
        if self._ratings is None:
            self._ratings = RatingsFile(self._path, self._scale)
            self._session = RatingSession("Rate the draws of this run", self._domain, self._ratings, can_finish=False)
        cards = self._cards(self._domain, items)
        missing = {card.draw: i for i, card in enumerate(cards) if card.draw not in self._ratings.values}
        if missing:
            chosen = [cards[i] for i in missing.values()]
            self._wait(sorted(chosen, key=lambda card: card.condition))
        cached = {*range(len(items))} - {*missing.values()}
        return Scores([float(self._ratings.values[card.draw]) for card in cards], cached=cached)

    def _cards(self, domain: Domain, items: Sequence[Any]) -> list[Card]:
        """Return a card for each object; its name is a hash of the picture, the text and the condition."""
        conditions = [domain.caption(item) for item in items]
        cards = cards_of(domain, items, [""] * len(items), conditions, rendered=True)
        for card in cards:
            seen = b"\0".join([card.condition.encode(), card.text.encode(), card.picture or b""])
            card.draw = hashlib.sha256(seen).hexdigest()[:32]
        return cards

    def _wait(self, cards: Sequence[Card]) -> None:
        """Show draws, and wait until all are rated."""
        assert self._session is not None
        self._session.show(cards)
        if self._server is None:
            self._server = RatingServer(self._session, self._port, self._token)
            self._port = self._server.port
        print(f"graft: {len(cards)} draws to rate at {self._server.url}", flush=True)
        with _interrupted_at_once():
            self._session.wait()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the page; a copy has its own."""
        return self.__dict__ | {"_server": None, "_session": None, "_ratings": None, "_domain": None}


@contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Raise KeyboardInterrupt for a signal within the block: nothing is lost, and a person may not come back."""

    def heard(number: int, frame: "FrameType | None") -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
