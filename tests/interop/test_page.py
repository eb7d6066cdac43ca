"""The web page in a real Chromium, at the width of a desk and of a hand."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.fakes.bittern_process import Bittern
from tests.fakes.need import need
from tests.fakes.payloads import Payload
from tests.interop.test_transmission_clients import free_port

DROP = """async ([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    need("chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_of(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A page; whatever it complains of fails the test."""
    complaints: list[str] = []
    pages: list[Page] = []

    def heard(said: ConsoleMessage) -> None:
        # that a daemon is gone is the tests' doing
        if said.type == "error" and "net::ERR_" not in said.text:
            complaints.append(said.text)

    def opened(port: int, width: int) -> Page:
        page = chromium.new_page(viewport={"width": width, "height": 800})
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"http://127.0.0.1:{port}/")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def dropped(page: Page, payload: Payload) -> None:
    page.evaluate(DROP, [f"{payload.name}.torrent", base64.b64encode(payload.blob()).decode()])


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.proof)])
def test_a_torrent_on_the_page(
    width: int, page_of: Callable[..., Page], tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("<b>page" if width == 1280 else "page", [200_000, 100_000], 65536)
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"}) as bittern:
        bittern.wait("web.ready")
        page = page_of(port, width)
        expect(page.locator("#empty")).to_be_visible()
        dropped(page, payload)
        row = page.locator(".row", has_text=payload.name)
        expect(row).to_be_visible()
        expect(row.locator(".state")).to_have_text("downloading")
        for path in payload.file_paths():
            (bittern.downloads / path).parent.mkdir(parents=True, exist_ok=True)
            (bittern.downloads / path).write_bytes((payload.folder / path).read_bytes())
        row.locator("input").click()
        page.locator("[data-do=recheck]").click()
        expect(row.locator(".state")).to_have_text("seeding")
        expect(row.locator(".progress")).to_contain_text("100.0 %")
        page.locator("[data-do=pause]").click()
        expect(row.locator(".state")).to_have_text("stopped")
        page.locator("[data-do=resume]").click()
        expect(row.locator(".state")).to_have_text("seeding")
        row.locator(".name").click()
        page.locator("[data-tab=files]").click()
        expect(page.locator("#tab")).to_contain_text(payload.file_paths()[1].rpartition("/")[2])
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        page.locator("#filter").fill("nothing like it")
        expect(row).to_have_count(0)
        page.locator("#filter").fill("")
        expect(row.locator("input")).to_be_checked()  # it still is
        page.locator("[data-do=remove]").click()
        expect(row).to_have_count(0)
        bittern.wait("torrent.removed")


def test_looking_only(
    page_of: Callable[..., Page], tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("shown", 100_000, 65536)
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port}) as bittern:
        bittern.wait("web.ready")
        bittern.give(payload)
        page = page_of(port, 1280)
        expect(page.locator(".row")).to_have_count(1)
        expect(page.locator("#steer")).to_be_hidden()
        page.locator("#list").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_have_text(payload.name)
        # a stream that breaks off is taken up again
        bittern.stop()
        expect(page.locator("#link")).to_contain_text("does not answer")
        bittern.start()
        bittern.wait("web.ready")
        expect(page.locator("#link")).to_have_text("live", timeout=20_000)


def shown_hashes(page: Page) -> Any:
    return json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('.row')].map(r => r.id))"))


@pytest.mark.proof
def test_of_many_only_those_in_sight_are_drawn(page_of: Callable[..., Page], tmp_path: Path) -> None:
    from tests.fakes.torrents import make_torrent

    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port}) as bittern:
        bittern.wait("web.ready")
        for number in range(300):
            made = make_torrent(f"many-{number:03}", size=1000)
            (bittern.drop / f"{number}.torrent").write_bytes(made.blob)
        bittern.wait("torrent.checked", 60, count=300)
        page = page_of(port, 1280)
        expect(page.locator("#list")).to_have_attribute("aria-rowcount", "301")
        first = shown_hashes(page)
        assert 5 < len(first) < 60
        page.evaluate("document.getElementById('scroll').scrollTop = 5000")
        expect(page.locator(".row", has_text="many-150")).to_be_visible()
        assert not set(first) & set(shown_hashes(page))
