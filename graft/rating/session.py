"""RatingSession: the draws on the page, their ratings, and the wait for the last one."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from graft.domain import Domain
from graft.errors import GraftError
from graft.rating.cards import Card
from graft.rating.ratings_file import RatingsFile

ON_A_SCREEN = 8  # largest number of draws on a screen
KEPT = 64  # number of rendered pictures in memory


class RatingSession:
    """The draws that people rate now. All methods may be called from several threads.

    Args:
        title: Title of the page.
        domain: Domain that renders the objects.
        ratings: File of the ratings.
        can_finish: True if people may end the session before all draws are rated.
    """

    def __init__(self, title: str, domain: Domain, ratings: RatingsFile, can_finish: bool = True) -> None:
        self.title, self.domain, self.ratings, self.can_finish = title, domain, ratings, can_finish
        self._cards: dict[str, Card] = {}
        self._shown = 0  # number of times that draws were shown
        self._finished = False
        self._changed = threading.Condition()
        self._rendering = threading.Lock()
        self._pictures: OrderedDict[str, bytes | None] = OrderedDict()

    def show(self, cards: Sequence[Card]) -> None:
        """Put draws on the page, in place of those that are there."""
        with self._changed:
            self._cards = {card.draw: card for card in cards}
            self._shown += 1
            self._changed.notify_all()

    def state(self) -> dict[str, Any]:
        """Return what the page shows, as JSON."""
        with self._changed:
            scale, values = self.ratings.scale, self.ratings.values
            return {
                "title": self.title,
                "scale": scale.name,
                "choices": [[value, name] for value, name in scale.choices.items()],
                "shown": self._shown,
                "finished": self._finished,
                "can_finish": self.can_finish,
                "pictures": self.domain.supports("render"),
                "views": self.domain.supports("render_html"),
                "screens": self._screens(),
                "ratings": {draw: values[draw] for draw in self._cards if draw in values},
            }

    def _screens(self) -> list[dict[str, Any]]:
        screens = list[dict[str, Any]]()
        for condition, cards in itertools.groupby(self._cards.values(), lambda card: card.condition):
            left = [{"draw": card.draw, "text": card.text} for card in cards]
            while left:
                screens.append({"condition": condition, "draws": left[:ON_A_SCREEN]})
                left = left[ON_A_SCREEN:]
        return screens

    def rate(self, draw: Any, value: Any) -> bool:
        """Set the rating of a draw on the page, None for none; return False if there is no such draw or value."""
        with self._changed:
            known = value is None or (type(value) is int and value in self.ratings.scale.choices)
            if not isinstance(draw, str) or draw not in self._cards or not known or self._finished:
                return False
            self.ratings.rate(draw, value)
            self._changed.notify_all()
            return True

    def undo(self) -> "str | None":
        """Take the last rating back, and return its draw; None if it is not on the page."""
        with self._changed:
            if self._finished or self.ratings.last not in self._cards:
                return None
            draw = self.ratings.undo()
            self._changed.notify_all()
            return draw

    def finish(self) -> bool:
        """End the session; return False if all draws must be rated first."""
        with self._changed:
            if self.can_finish:
                self._finished = True
                self._changed.notify_all()
            return self.can_finish

    @property
    def rated(self) -> int:
        """The number of draws on the page that are rated."""
        return sum(draw in self.ratings.values for draw in self._cards)

    def wait(self) -> None:
        """Wait until the session is finished, or until all draws are rated where people cannot end it before."""
        with self._changed:
            while not (self._finished or (not self.can_finish and self.rated == len(self._cards))):
                self._changed.wait(0.5)  # a limit, so that signals are handled on every system

    def picture(self, draw: str) -> "bytes | None":
        """Return a PNG of a draw on the page; None if there is no such draw or no picture of it."""
        card = self._cards.get(draw)
        if card is None:
            return None
        with self._rendering:  # the libraries of domains need not be safe in several threads
            if draw not in self._pictures:
                try:
                    self._pictures[draw] = card.picture or self.domain.render([card.item])
                except GraftError:  # an object that cannot be drawn is rated by its text
                    self._pictures[draw] = None
                while len(self._pictures) > KEPT:
                    self._pictures.popitem(last=False)
            return self._pictures[draw]

    def view(self, draw: str) -> str:
        """Return HTML that shows a draw in 3-D; "" if there is no such draw or no such view of it."""
        card = self._cards.get(draw)
        if card is None:
            return ""
        with self._rendering:
            return self.domain.render_html([card.item], [card.text])
