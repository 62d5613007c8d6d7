"""Headless Chromium, Debian's, driven by Playwright; never one that Playwright would download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.tools import missing, require_tool

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Nothing but the instance is asked: no look-ups, updates or experiments of the browser's own.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; every context opened in it starts without cookies."""
    program = require_tool("chromium", "chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright", "make test, or pip install -r requirements-test.lock")
        raise
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(program), headless=True, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
