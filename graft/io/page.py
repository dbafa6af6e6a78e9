"""HTML pages: one skeleton and one content-security policy for every page that graft writes."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from graft.io.atomic import write_text

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse}td,th{padding:.25rem .9rem;border-bottom:1px solid #dde3ea;text-align:right}
td:first-child,th:first-child{text-align:left}th{color:#5a6675;font-weight:600}
img,svg{max-width:100%;height:auto}figure{margin:0 0 1.5rem}figcaption{font-weight:600}
code,pre{background:#f3f5f8;border-radius:4px;padding:.1rem .3rem}pre{padding:.8rem;overflow-x:auto}
.note{color:#5a6675}
"""

DIRECTIVES = {
    "default-src": "'none'",
    "img-src": "data:",
    "style-src": "'unsafe-inline'",
    "script-src": "'unsafe-inline'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
"""Content-security policy of a page: a browser loads nothing from anywhere, whatever the page contains.

Inline styles, inline scripts (the 3-D viewer) and embedded images work.
"""


def policy(directives: Mapping[str, str] = DIRECTIVES) -> str:
    """Return the text of a content-security policy from the sources by directive."""
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


def hash_source(text: str) -> str:
    """Return the source of a policy that allows one inline script or style, by its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render_page(title: str, sections: Sequence[str], directives: Mapping[str, str] = DIRECTIVES) -> str:
    """Return a whole HTML page.

    Args:
        title: Title of the browser's tab, as plain text.
        sections: HTML of the body, in order.
        directives: Content-security policy; one of a page that a server sends may allow more than a file needs.
    """
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy(directives)}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>"
    )


def write_page(path: "str | Path", title: str, sections: Sequence[str]) -> None:
    """Write an HTML page atomically.

    Args:
        path: Path of the file.
        title: Title of the browser's tab, as plain text.
        sections: HTML of the body, in order.
    """
    write_text(path, render_page(title, sections))


def embed_image(png: bytes, alt: str, caption: str = "") -> str:
    """Return an HTML figure with a PNG image inside, so that the page needs no other file.

    Args:
        png: The image.
        alt: Alternative text of the image, as plain text.
        caption: Caption above the image, as plain text; empty for none.
    """
    above = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    data = base64.b64encode(png).decode()
    return f"<figure>{above}<img alt='{html.escape(alt)}' src='data:image/png;base64,{data}'></figure>"


def repeat_section(command: str, versions: Mapping[str, str]) -> str:
    """Return the HTML section with a run's command and the versions of its packages.

    Args:
        command: Command line of the run.
        versions: Version of each package by name.
    """
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"<h2>Repeat it</h2><pre>{html.escape(command)}</pre><p class='note'>{html.escape(packages)}</p>"
