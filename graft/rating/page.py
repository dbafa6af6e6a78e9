"""The page of a rating session: its frame is that of every page, and its script and style are files of this folder."""

from pathlib import Path

from graft.io import page

_HERE = Path(__file__).parent
SCRIPT = (_HERE / "rate.js").read_text(encoding="utf-8-sig")
STYLE = (_HERE / "rate.css").read_text(encoding="utf-8-sig")

NOTHING = {"default-src": "'none'", "frame-ancestors": "'none'"}
"""Policy of answers that are no page."""
_META = {
    **page.DIRECTIVES,
    "img-src": "'self'",
    "connect-src": "'self'",
    "script-src": page.hash_source(SCRIPT),
    "style-src": f"{page.hash_source(page.STYLE)} {page.hash_source(STYLE)}",
}
DIRECTIVES = {**_META, "frame-ancestors": "'none'"}
"""Policy of the page: its own script and style, and pictures and answers of the server that sent it."""


def render(title: str) -> str:
    """Return the HTML of the page; its script asks the server for the draws.

    Args:
        title: Title of the page, as plain text.
    """
    body = f"<style>{STYLE}</style><noscript>This page needs JavaScript.</noscript><script>{SCRIPT}</script>"
    return page.render_page(title, [body], _META)
