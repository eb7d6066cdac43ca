"""The web page in a real Chromium, at the width of a desk and of a hand."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from bittern.proto.bencode import decode, encode
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.need import need
from tests.fakes.payloads import Payload
from tests.fakes.processes import free_port
from tests.fakes.torrents import make_torrent

DROP = """async ([name, encoded]) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    need("chromium")
    expect.set_options(timeout=60_000)
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
        page.set_default_timeout(60_000)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"http://127.0.0.1:{port}/")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def dropped(page: Page, payload: Payload) -> None:
    page.evaluate(DROP, [f"{payload.name}.torrent", base64.b64encode(payload.blob()).decode()])


def given_up(work: Path) -> str:
    """A hook for the configuration, which fails until a file `well` lies beside it."""
    script = work / "sometimes"
    script.write_text(
        '#!/bin/sh\necho "no <b>library</b> of $BITTERN_NAME"\ntest -e "$(dirname "$0")/well"\n'
    )
    script.chmod(0o755)
    return f'[[hook]]\non = ["added"]\nretries = 0\ncommand = ["{script}"]\n'


def painted(page: Page) -> int:
    """How many colours the map of pieces has, the bare ground not counted."""
    return int(
        page.evaluate("""() => {
            const canvas = document.querySelector(".map canvas");
            const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(all.buffer).filter(Boolean)).size;
        }""")
    )


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.proof)])
def test_a_torrent_on_the_page(
    width: int, page_of: Callable[..., Page], tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("<b>page" if width == 1280 else "page", [200_000, 100_000], 16384)
    port = free_port()
    bittern = Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"})
    bittern.write_config(given_up(tmp_path))
    (tmp_path / "seed").mkdir()
    with bittern, Libtorrent(tmp_path / "seed") as seed:
        bittern.wait("web.ready")
        page = page_of(port, width)
        expect(page.locator("#empty")).to_be_visible()
        dropped(page, payload)
        row = page.locator(".row", has_text=payload.name)
        expect(row).to_be_visible()
        expect(row.locator(".state")).to_have_text("downloading")
        row.locator(".words").click()
        page.locator("[data-tab=pieces]").click()
        expect(page.locator(".map .told")).to_contain_text("0 of 19 pieces")
        seed.add(payload.torrent(tmp_path), payload.folder)
        seed.wait_for("checked")
        seed.connect(bittern.port)
        expect(row.locator(".state")).to_have_text("seeding")
        expect(row.locator(".progress")).to_contain_text("100.0 %")
        expect(page.locator(".map .told")).to_contain_text("19 of 19 pieces")
        expect(page.locator(".map canvas")).to_have_attribute("aria-label", re.compile("19 of 19 pieces"))
        assert painted(page) == 1
        page.locator("[data-do=pause]").click()
        expect(row.locator(".state")).to_have_text("stopped")
        page.locator("[data-do=resume]").click()
        expect(row.locator(".state")).to_have_text("seeding")
        page.locator("[data-tab=files]").click()
        expect(page.locator("#tab")).to_contain_text(payload.file_paths()[1].rpartition("/")[2])
        page.locator("[data-tab=limits]").click()
        page.get_by_label("Upload: limited").check()
        page.get_by_label("Upload", exact=True).fill("30")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".said")).to_have_text("Saved.")
        assert bittern.records()[payload.info_hash].limits.upload == 30 * 1024
        # what is set for all is taken back
        page.locator("#open-limits").click()
        every = page.locator("#limits-form")
        every.get_by_label("In all", exact=True).fill("7")
        every.get_by_role("button", name="Save").click()
        expect(every.locator(".said")).to_have_text("Saved.")
        every.get_by_label("Of one torrent", exact=True).fill("9")
        every.get_by_role("button", name="In all: set here").click()
        expect(every.locator(".said")).to_have_text("As the configuration says.")
        expect(every.get_by_label("In all", exact=True)).not_to_have_value("7")
        expect(every.get_by_label("Of one torrent", exact=True)).to_have_value("9")
        expect(every.locator(".mark:visible")).to_have_count(0)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        # a call of a hook that was given up is told again
        page.locator("#open-hooks").click()
        dead = page.locator(".delivery", has_text="dead")
        dead.locator("summary").click()
        expect(dead.locator("pre:visible")).to_contain_text(f"no <b>library</b> of {payload.name}")
        (tmp_path / "well").touch()
        dead.get_by_role("button", name="Replay").click()
        expect(page.locator("#delivery-counts")).to_contain_text("0 dead")
        page.keyboard.press("Escape")
        expect(page.locator("#hooks")).to_be_hidden()
        row.locator(".pick input").click()
        page.locator("#filter").fill("nothing like it")
        expect(row).to_have_count(0)
        page.locator("#filter").fill("")
        expect(row.locator(".pick input")).to_be_checked()  # it still is
        page.locator("[data-do=remove]").click()
        expect(page.locator("#remove .names")).to_have_text(payload.name)
        page.locator("#remove-now").click()
        expect(row).to_have_count(0)
        bittern.wait("torrent.removed")


@pytest.mark.proof
def test_looking_only(
    page_of: Callable[..., Page], tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("shown", 100_000, 65536)
    port = free_port()
    bittern = Bittern(tmp_path, web={"enabled": True, "port": port})
    bittern.write_config(given_up(tmp_path))
    with bittern:
        bittern.wait("web.ready")
        bittern.give(payload)
        bittern.wait("hook.done", command=[str(tmp_path / "sometimes")])
        page = page_of(port, 1280)
        expect(page.locator(".row")).to_have_count(1)
        page.locator("#list").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_have_text(payload.name)
        for tab in ("files", "peers", "trackers", "pieces", "limits", "log", "facts"):
            page.locator(f"[data-tab={tab}]").click()
            expect(page.locator("#tab")).not_to_be_empty()
            expect(page.locator("#tab :is(select, input, button):enabled:not([type=search])")).to_have_count(
                0
            )
        page.locator("#open-limits").click()
        expect(page.locator("#limits-form fieldset").first).to_have_attribute("disabled", "")
        expect(page.get_by_role("button", name="Save")).to_have_count(0)
        page.keyboard.press("Escape")
        page.locator("#open-hooks").click()
        page.locator(".delivery summary").first.click()
        expect(page.locator(".delivery code").first).to_be_visible()
        expect(page.locator(".delivery pre:visible")).to_have_count(0)
        expect(page.get_by_role("button", name="Replay")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(page.locator("[data-steer]:visible")).to_have_count(0)
        expect(page.locator("[data-do]:visible")).to_have_count(0)
        # nor by key
        page.locator("#list").focus()
        for key in ("a", "Delete"):
            page.keyboard.press(key)
        expect(page.locator("dialog[open]")).to_have_count(0)
        # a stream that breaks off is taken up again; what went meanwhile is not chosen any more
        page.keyboard.press("Escape")
        page.keyboard.press("Space")
        expect(page.locator("#whom")).to_contain_text("1 chosen")
        held: list[Route] = []
        page.route("**/api/v1/log", lambda route: held.append(route))
        bittern.stop()
        expect(page.locator("#link")).to_contain_text("does not answer")
        for record in (bittern.state / "resume").glob(f"{payload.info_hash}*"):
            record.unlink()
        bittern.start()
        bittern.wait("web.ready")
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#whom")).to_be_hidden()
        # Of what happened nothing is missed, however late the answer comes. (The page cannot be there to hear
        # `daemon.loaded`.)
        made = make_torrent("the latest")
        (bittern.drop / "latest.torrent").write_bytes(made.blob)
        expect(page.locator("#latest")).to_contain_text("the latest")
        page.locator("#told summary").click()
        expect(page.locator("#events .event", has_text="daemon.loaded")).to_have_count(1)
        while not held:
            page.wait_for_timeout(20)
        for one in held:
            one.continue_()
        expect(page.locator("#events .event", has_text="daemon.loaded")).to_have_count(2)
        expect(page.locator("#latest")).to_contain_text("the latest")


@pytest.mark.proof
def test_all_of_it_by_keyboard(page_of: Callable[..., Page], tmp_path: Path) -> None:
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"}) as bittern:
        bittern.wait("web.ready")
        for number in range(3):
            made = make_torrent(f"of-{number}", size=1000)
            (bittern.drop / f"{number}.torrent").write_bytes(made.blob)
        bittern.wait("torrent.checked", count=3)
        page = page_of(port, 1280)
        expect(page.locator(".row")).to_have_count(3)
        press = page.keyboard.press
        page.locator("#list").focus()
        press("Home")
        press("Enter")
        expect(page.locator("#title")).to_have_text("of-0")
        expect(page.locator("#tab-facts")).to_be_focused()
        press("ArrowRight")
        expect(page.locator("#tab-files")).to_be_focused()
        expect(page.locator("#tab-files")).to_have_attribute("aria-selected", "true")
        press("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        expect(page.locator("#list")).to_be_focused()
        press("Shift+ArrowDown")
        press("Shift+ArrowDown")
        expect(page.locator("#whom-count")).to_have_text("3 chosen")
        press("Escape")
        expect(page.locator("#whom")).to_be_hidden()
        press("Control+a")
        press("Delete")
        expect(page.locator("#remove .names li")).to_have_text(["of-0", "of-1", "of-2"])
        expect(page.get_by_role("button", name="Cancel")).to_be_focused()  # of the two the harmless one
        press("Escape")
        expect(page.locator("#remove")).to_be_hidden()
        expect(page.locator("#list")).to_be_focused()
        # each control has its turn, with a mark that is seen and a name that is heard
        reached = set()
        page.locator("h1").click()
        for _ in range(60):
            press("Tab")
            now = page.evaluate("""() => {
                const at = document.activeElement, mark = getComputedStyle(at);
                if (at === document.body) return null;
                const label = at.getAttribute("aria-label") || at.labels?.[0]?.innerText;
                const name = label || at.innerText || at.placeholder;
                return [at.id || at.dataset.do + (at.dataset.to ?? ""), name?.trim(), mark.outlineStyle, at.tagName];
            }""")
            if now is None:
                continue
            assert now[1], now
            assert now[2] != "none", now
            reached.add(now[0])
        doing = {
            "resume",
            "pause",
            "recheck",
            "reannounce",
            "queuetop",
            "queuebottom",
            "label",
            "move",
            "remove",
        }
        assert {
            *doing,
            "slow",
            "open-limits",
            "open-hooks",
            "open-keys",
            "filter",
            "state",
            "add",
            "list",
        } <= reached


HOSTILE = {
    "markup": "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>",
    "steering": "photo\u202egpj.exe\u2066\u0007",
    "long": "long-" * 800,
}


@pytest.mark.proof
def test_nothing_of_a_torrent_is_more_than_text(page_of: Callable[..., Page], tmp_path: Path) -> None:
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"}) as bittern:
        bittern.wait("web.ready")
        for number, name in enumerate(HOSTILE.values()):
            url = f"http://tracker.example/{name[:100]}".replace(" ", "%20")
            made = make_torrent(
                f"folder-{number}", files=[(name[:200], 1000), ("plain", 1)], trackers=[[url]]
            )
            info = dict(decode(made.blob))
            info[b"info"] = {**info[b"info"], b"name": name.encode()}
            (bittern.drop / f"{number}.torrent").write_bytes(encode(info))
        bittern.wait("torrent.added", count=3)
        page = page_of(port, 1280)
        expect(page.locator(".row")).to_have_count(3)
        for row in page.locator(".row").all():
            row.locator(".words").click()
            for tab in ("files", "trackers", "log", "facts"):
                page.locator(f"[data-tab={tab}]").click()
                expect(page.locator("#tab")).not_to_be_empty()
            steers = "/[\\u202a-\\u202e\\u2066-\\u2069\\u0007]/.test(document.documentElement.outerHTML)"
            assert page.evaluate(steers) is False
            # nothing is wider than the page
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("img").count() == 0
        assert page.evaluate("document.scripts.length") == 1
        assert "taken" not in page.title()


def shown_hashes(page: Page) -> Any:
    return json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('.row')].map(r => r.id))"))


@pytest.mark.proof
def test_of_many_only_those_in_sight_are_drawn(page_of: Callable[..., Page], tmp_path: Path) -> None:
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port}) as bittern:
        bittern.wait("web.ready")
        for number in range(300):
            made = make_torrent(f"many-{number:03}", size=1000)
            (bittern.drop / f"{number}.torrent").write_bytes(made.blob)
        bittern.wait("torrent.checked", count=300)
        page = page_of(port, 1280)
        expect(page.locator("#list")).to_have_attribute("aria-rowcount", "301")
        first = shown_hashes(page)
        assert 5 < len(first) < 60
        page.evaluate("document.getElementById('scroll').scrollTop = 4200")
        expect(page.locator(".row", has_text="many-150")).to_be_visible()
        assert not set(first) & set(shown_hashes(page))
