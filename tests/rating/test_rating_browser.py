"""The page in a real browser: keys, clicks, undo, progress, a closed tab, a lost server, a phone's width."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import session

from graft.rating import RatingServer

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow  # a browser takes long to start on a busy machine
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Open an empty tab whose errors fail the test."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(120_000)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    yield tab
    tab.close()
    assert not wrong


def counted(page: Any, text: str) -> None:
    """Wait until the header has a text."""
    page.wait_for_selector(f"header >> text={text}")


def test_keys_clicks_and_undo(page: Any, tmp_path: Path) -> None:
    shown = session(tmp_path / "a.jsonl", count=20)
    server = RatingServer(shown)
    page.goto(server.url)
    page.wait_for_selector(".draw img")
    assert page.inner_text("h2") == "<i>0</i>" and page.inner_text(".draw .text >> nth=0") == "<b>0</b>"  # as text
    assert page.evaluate("[...document.images].every((image) => image.decode)")
    page.keyboard.press("k")
    page.keyboard.press("d")
    counted(page, "2 of 20 rated")
    page.click(".draw >> nth=2 >> .keep")
    counted(page, "3 of 20 rated")
    page.wait_for_function("document.querySelectorAll('[aria-pressed=true]').length === 3")
    page.keyboard.press("u")
    counted(page, "2 of 20 rated")
    assert "here" in page.get_attribute(".draw >> nth=2", "class")
    for _ in range(6):
        page.keyboard.press("1")  # the digit of a rating works too
    page.wait_for_selector("text=screen 2 of 4")  # by itself, when the screen is rated
    page.keyboard.press("[")
    page.wait_for_selector("text=screen 1 of 4")
    page.keyboard.press("Backspace")
    counted(page, "7 of 20 rated")
    page.keyboard.press("n")
    page.keyboard.press(" ")
    page.wait_for_selector("main.large")
    assert page.locator(".draw:visible").count() == 1
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('main.large')")
    assert shown.ratings.values == {"d2": 0} | {f"d{i}": 1 for i in (4, 6, 8, 10, 12, 14)}
    server.close()


def test_a_closed_tab_and_a_new_server(browser: Any, page: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    server = RatingServer(session(path, "stars", count=4))
    page.goto(server.url)
    page.wait_for_selector(".draw")
    page.keyboard.press("5")
    counted(page, "1 of 4 rated")
    other = browser.new_page()
    other.set_default_timeout(120_000)
    other.goto(server.url)
    counted(other, "1 of 4 rated")
    other.click(".draw >> nth=1 >> [data-value='2']")
    counted(other, "2 of 4 rated")
    other.close()
    counted(page, "2 of 4 rated")  # the first tab follows
    server.close()
    page.wait_for_selector("text=graft does not answer")
    again = session(path, "stars", count=4)  # as a new process, which reads the file
    server = RatingServer(again, server.port, server.token)
    page.wait_for_selector("text=graft does not answer", state="hidden")
    page.keyboard.press("n")
    page.keyboard.press("1")
    page.keyboard.press("3")
    page.wait_for_selector("text=All draws are rated.")
    page.click("header >> text=Finish")
    page.wait_for_selector("text=this tab may be closed")
    again.wait()
    assert again.ratings.values == {"d0": 5, "d2": 2, "d1": 1, "d3": 3}
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 5
    server.close()


def test_the_draws_of_the_next_batch_appear(page: Any, tmp_path: Path) -> None:
    shown = session(tmp_path / "a.jsonl", count=2, can_finish=False)
    server = RatingServer(shown)
    page.goto(server.url)
    page.wait_for_selector(".draw")
    assert not page.is_visible("header >> text=Finish")
    page.keyboard.press("k")
    page.keyboard.press("k")
    shown.wait()
    page.wait_for_selector("text=The run continues")
    after = session(tmp_path / "b.jsonl", count=8)
    shown.show(list(after._cards.values()))
    counted(page, "2 of 8 rated")
    page.keyboard.press("k")
    counted(page, "3 of 8 rated")
    server.close()


def test_a_phone(browser: Any, tmp_path: Path) -> None:
    """No part is wider than the screen, and buttons are large enough for a finger."""
    server = RatingServer(session(tmp_path / "a.jsonl", "stars"))
    tab = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True)
    tab.set_default_timeout(120_000)
    tab.goto(server.url)
    tab.wait_for_selector(".draw")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = tab.evaluate(
        "[...document.querySelectorAll('.choices button')].map((b) => b.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 30 and all(box["height"] >= 40 and box["width"] >= 40 for box in boxes)
    assert tab.evaluate("document.querySelector('.draw img').getBoundingClientRect().width") > 280
    tab.tap(".draw >> nth=0 >> [data-value='4']")
    counted(tab, "1 of 12 rated")
    tab.close()
    server.close()
