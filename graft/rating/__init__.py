"""Rating: people rate draws on a page that this process serves to the machine's own browser."""

from graft.rating.cards import Card, cards_of
from graft.rating.ratings_file import RatingsFile
from graft.rating.scale import SCALES, Scale
from graft.rating.server import RatingServer
from graft.rating.session import RatingSession

__all__ = ["SCALES", "Card", "RatingServer", "RatingSession", "RatingsFile", "Scale", "cards_of"]
