"""Opens every page of the built site in Chromium, 1280 and 420 pixels wide: `python docs/browse.py build/docs`.

Exit status 1 where the browser's console says something, a page is wider than its window, or a text's contrast to its
background is below 4.5 (WCAG 2, level AA). The browser has no network.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

WIDTHS = (1280, 420)
CONTRAST = 4.5
LOOK = (Path(__file__).parent / "browse.js").read_text()
"""Puts into the title of the page: for every width and page, how wide it is, and its least contrast with the text."""


class Seen(NamedTuple):
    """A page in a window of some width."""

    page: str
    width: int
    needed: int  # pixels that the page is wide
    contrast: float  # the least of all its texts
    text: str  # which has that contrast


def browse(site: Path, pages: list[str]) -> tuple[list[str], list[Seen]]:
    """What the console tells, and what is seen of each page at each width."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("docs/browse.py needs Chromium; install it.")
    frame = site / "browse-frame.html"
    given = f"const PAGES = {json.dumps(pages)}, WIDTHS = {json.dumps(WIDTHS)};"
    frame.write_text(f"<!doctype html><title></title><iframe></iframe><script>{given}{LOOK}</script>")
    with tempfile.TemporaryDirectory() as profile:
        flags = (
            "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
            f"--disable-component-update --disable-quic --enable-logging=stderr --user-data-dir={profile} "
            "--virtual-time-budget=90000000 --dump-dom --allow-file-access-from-files"
        ).split()
        try:
            ran = subprocess.run(
                [browser, *flags, "--host-resolver-rules=MAP * ~NOTFOUND", frame.resolve().as_uri()],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            frame.unlink()
    title = html.unescape(re.findall(r"<title>(.*?)</title>", ran.stdout)[0])
    return [line for line in ran.stderr.splitlines() if "CONSOLE" in line], [Seen(*row) for row in json.loads(title)]


def complaints(console: list[str], seen: list[Seen]) -> list[str]:
    """What is wrong, a sentence each."""
    wide = [
        f"{one.page} is {one.needed} pixels wide in a window of {one.width}" for one in seen if one.needed > one.width
    ]
    faint = [
        f"{one.page}: contrast of {one.contrast:.2f} is below {CONTRAST}: {one.text}"
        for one in seen
        if one.contrast < CONTRAST
    ]
    return sorted(set(console)) + wide + faint


def main(site: Path) -> int:
    pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html") if "_static" not in page.parts)
    console, seen = browse(site, pages)
    assert len(seen) == len(pages) * len(WIDTHS), "a page was not opened"
    found = complaints(console, seen)
    print("\n".join(found) or f"{len(pages)} pages, least contrast {min(one.contrast for one in seen):.2f}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
