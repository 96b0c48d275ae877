"""Cookies as Chromium keeps them: reloads, tabs, another site, a logout."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

EXAMPLE = Path(__file__).parents[2] / "example_project"
CHROMIUM = os.environ.get("JWT_AUTH_TEST_CHROMIUM", "")
PASSWORD = "alice likes long walks"
ACCESS, REFRESH = "__Host-access_token", "__Secure-refresh_token"

# A browser that has just been installed takes its time.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Return the address of the example, which runs until the tests end."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "manage.py", "demo", "--skip-tour", "--port", str(port)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example.settings"}
    process = subprocess.Popen(
        command,
        cwd=EXAMPLE,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return the system's browser."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Watched:
    """A browser with cookies of its own; what it complains of and what it sends is noted."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.context = context
        self.site = site
        self.complaints: list[str] = []
        self.posts: list[str] = []
        context.on("page", self._watch)

    def _watch(self, page: Page) -> None:
        def hear(message: Any) -> None:
            if message.type == "error":
                self.complaints.append(message.text)

        def note(request: Any) -> None:
            if request.method == "POST":
                self.posts.append(request.url.removeprefix(self.site))

        page.on("console", hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", note)

    def open(self) -> Page:
        """Open the page in a new tab."""
        page = self.context.new_page()
        page.goto(self.site)
        return page

    def cookies(self) -> dict[str, Any]:
        """Return the cookies that hold tokens, by name."""
        return {one["name"]: one for one in self.context.cookies() if "_token" in one["name"]}


@pytest.fixture
def watched(chromium: Any, site: str) -> Iterator[Watched]:
    """Return a browser that nobody has used."""
    context = chromium.new_context()
    yield Watched(context, site)
    context.close()


@pytest.fixture
def page(watched: Watched) -> Page:
    """Return a tab in which alice has signed in."""
    page = watched.open()
    page.fill("#username", "alice")
    page.fill("#password", PASSWORD)
    page.click("#login button")
    expect(page.locator("#who")).to_have_text("alice is signed in.")
    return page


def is_signed_in(page: Page) -> None:
    page.wait_for_selector("body[data-ready=yes]")
    expect(page.locator("#who")).to_have_text("alice is signed in.")
    page.click("text=Summary")
    expect(page.locator("#answer")).to_contain_text('"user": "alice"')


def test_the_cookies(page: Page, watched: Watched) -> None:
    found = watched.cookies()
    assert set(found) == {ACCESS, REFRESH}
    for cookie in found.values():
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
    assert (found[ACCESS]["path"], found[REFRESH]["path"]) == ("/", "/auth/browser/")
    assert "_token" not in page.evaluate("document.cookie")
    assert "_token" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert watched.complaints == []


def test_reloads(page: Page, watched: Watched) -> None:
    for _ in range(10):
        page.reload()
        is_signed_in(page)
    assert watched.posts == ["/auth/browser/login/"]
    assert watched.complaints == []


def test_reloads_without_waiting(page: Page, watched: Watched) -> None:
    watched.context.clear_cookies(name=ACCESS)
    for _ in range(9):
        # In the middle of whatever the page has begun.
        page.goto(watched.site, wait_until="commit")
    page.goto(watched.site)
    is_signed_in(page)
    assert watched.complaints == []


def test_five_tabs_at_once(page: Page, watched: Watched) -> None:
    watched.context.clear_cookies(name=ACCESS)
    tabs = [watched.context.new_page() for _ in range(5)]
    for tab in tabs:
        # Not waited for: all of them are under way together.
        tab.evaluate(f"setTimeout(() => location.href = {watched.site!r} + '/', 0)")
    for tab in tabs:
        tab.wait_for_url(f"{watched.site}/")
        is_signed_in(tab)
    # One of them has refreshed for all; a second may have had the lock before it saw what
    # the first had written, and got the same token.
    assert watched.posts.count("/auth/browser/refresh/") in (1, 2)
    assert watched.complaints == []


def test_a_refresh_by_cookie(page: Page, watched: Watched) -> None:
    before = watched.cookies()
    page.click("#refresh")
    expect(page.locator("#answer")).to_contain_text("POST /auth/browser/refresh/")
    expect(page.locator("#answer")).to_contain_text("200 OK")
    after = watched.cookies()
    for name in (ACCESS, REFRESH):
        assert after[name]["value"] != before[name]["value"]
        assert after[name]["value"] not in page.locator("#answer").inner_text()
    is_signed_in(page)
    assert watched.complaints == []


@pytest.fixture
def another_site(site: str) -> Iterator[str]:
    """Return the address of a page on another site that posts what its path says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                f'<body onload="document.forms[0].submit()">'
                f'<form method="post" action="{site}{self.path}"></form>'
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    # Another name for this machine is another site.
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/auth/browser/logout/", {403}),
        ("/auth/browser/refresh/", {403}),
        ("/auth/browser/login/", {403}),
        ("/api/notes/1/publish/", {401, 403}),
    ],
)
def test_another_site_posts_a_form(
    page: Page, watched: Watched, another_site: str, path: str, statuses: set[int]
) -> None:
    before = watched.cookies()
    evil = watched.context.new_page()
    with evil.expect_response(f"{watched.site}{path}") as caught:
        evil.goto(f"{another_site}{path}")
    assert caught.value.status in statuses
    assert watched.cookies() == before
    is_signed_in(page)


def test_a_logout_clears_both_cookies(page: Page, watched: Watched) -> None:
    page.click("#logout")
    expect(page.locator("#answer")).to_contain_text("204")
    expect(page.locator("#who")).to_have_text("Nobody is signed in.")
    assert watched.cookies() == {}
    page.reload()
    expect(page.locator("#who")).to_have_text("Nobody is signed in.")
    assert watched.complaints == []


def test_a_cookie_of_a_session_that_has_ended(page: Page, watched: Watched) -> None:
    kept = watched.context.cookies()
    page.click("#logout")
    expect(page.locator("#who")).to_have_text("Nobody is signed in.")
    # As a browser would that was not told: the session was ended elsewhere.
    watched.context.add_cookies(kept)
    page.reload()
    expect(page.locator("#who")).to_have_text("Nobody is signed in.")
    page.fill("#username", "alice")
    page.fill("#password", PASSWORD)
    page.click("#login button")
    is_signed_in(page)
    assert watched.complaints == []
