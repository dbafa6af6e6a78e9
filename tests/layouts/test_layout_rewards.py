"""Rewards: hand-made layouts with known values."""

import math

import pytest

from domains.layouts.files import write_layouts
from domains.layouts.layout import Layout, layout
from domains.layouts.rewards import InPage, Margins, NegativeAlignment, NegativeOverlap, TargetLayoutIoU
from graft.errors import GraftError

TWO = layout(["text", "text"], [[0.1, 0.1, 0.5, 0.3], [0.13, 0.4, 0.6, 0.45]])
"""Left edges 0.03 apart, which is the least difference of a line."""
OVER = layout(["text", "figure"], [[0.0, 0.0, 0.4, 0.4], [0.2, 0.2, 0.4, 0.6]])
"""They share 0.04 of areas 0.16 and 0.08."""
ONE = layout(["title"], [[0.2, 0.2, 0.5, 0.5]])


def test_alignment() -> None:
    assert NegativeAlignment().score(TWO) == pytest.approx(100 * math.log1p(-0.03))
    assert NegativeAlignment().score(ONE) == 0


def test_overlap() -> None:
    assert NegativeOverlap().score(OVER) == pytest.approx(-(0.25 + 0.5) / 2)
    assert NegativeOverlap().score(TWO) == NegativeOverlap().score(ONE) == 0


def test_tolerance() -> None:
    assert NegativeAlignment(1.0).score(TWO) == pytest.approx(1 + 100 * math.log1p(-0.03))
    assert NegativeAlignment(5).score(TWO) == NegativeOverlap(tolerance=0.4).score(OVER) == 0
    with pytest.raises(GraftError, match="at least 0"):
        NegativeOverlap(tolerance=-1)


def test_in_page() -> None:
    out = layout(["text", "text"], [[-0.1, 0, 0.1, 1], [0, 0, 1, 1]])
    assert InPage().score(out) == pytest.approx(0.75)
    assert InPage().score(OVER) == 1


def test_margins_and_gutters() -> None:
    item = layout(["text", "text"], [[0.02, 0.1, 0.5, 0.3], [0.1, 0.304, 0.5, 0.96]])
    # 0.04 into the left margin, 0.02 into the lower one, and twice 0.006 nearer than the gutter
    assert Margins(0.06, 0.01).score(item) == pytest.approx(-(0.04 + 0.02 + 2 * 0.006) / 2)
    assert Margins().score(ONE) == 0
    with pytest.raises(GraftError, match=r"margin is 0\.5"):
        Margins(margin=0.5)


def test_brief(tmp_path) -> None:
    wanted = layout(["text", "text", "figure"], [[0, 0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7], [0, 0.8, 1, 1]])
    write_layouts([wanted], tmp_path / "wanted.json")
    reward = TargetLayoutIoU(str(tmp_path / "wanted.json"))
    assert reward.score(wanted) == pytest.approx(1)
    order = layout(["figure", "text", "text"], [[0, 0.8, 1, 1], [0.5, 0.5, 0.7, 0.7], [0, 0, 0.2, 0.2]])
    assert reward.score(order) == pytest.approx(1)
    # one text half covered, IoU 1/2; the other and the figure are not there; a title is too much
    partly = layout(["text", "title"], [[0, 0, 0.2, 0.1], [0, 0.8, 1, 1]])
    assert reward.score(partly) == pytest.approx(0.5 / 3)


@pytest.mark.parametrize("reward", [NegativeAlignment(), NegativeOverlap(), Margins()])
def test_no_reward_depends_on_the_order(reward) -> None:
    swapped = Layout(OVER.labels[::-1], OVER.boxes[::-1])
    assert reward.score(OVER) == pytest.approx(reward.score(swapped))


def test_hacks_score_best_so_other_statistics_must_show_them() -> None:
    """One element and equal boxes have a perfect alignment: these rewards alone cannot detect that."""
    equal = layout(["text"] * 3, [[0.1, 0.1, 0.5, 0.5]] * 3)
    assert NegativeAlignment().score(equal) == NegativeAlignment().score(ONE) == NegativeOverlap().score(ONE) == 0
    assert NegativeOverlap().score(equal) == pytest.approx(-2)
