"""The prompt, help, completion and fetching, without a daemon; what needs one is in the journey by command."""

import contextlib
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading

import click
import pytest
from click.testing import CliRunner

from bittern.cli import completion, daemon, fetching, shell
from bittern.cli.commands import ALIASES, COMMANDS, bittern
from tests.fakes.torrents import make_torrent

TORRENTS = [
    {"info_hash": "ab" * 20, "name": "debian 12.iso"},
    {"info_hash": "cd" * 20, "name": "fedora.iso"},
]


class Paper(daemon.Daemon):
    """The daemon's place: notes what it is asked."""

    def __init__(self):
        self.asked = []

    def ask(self, method, path, **terms):
        self.asked.append((method, path))
        return {"info_hash": "ab" * 20, "name": "new.iso", "result": "added"}

    def torrents(self, patterns, fields=()):
        return [one for one in TORRENTS if not patterns or one["name"] in patterns]


@pytest.fixture
def paper():
    return Paper()


@pytest.fixture
def prompt(paper):
    top = click.Context(bittern, info_name="bittern")
    top.meta["bittern.daemon"] = paper
    with top:
        yield shell.Prompt(top)


def test_lines_are_commands(prompt, paper, capsys, tmp_path):
    (tmp_path / "a b.torrent").write_bytes(b"d4:infodee")
    assert prompt.obey(f'download "{tmp_path}/a b.torrent"  # a comment') == 0
    assert prompt.obey("check 'debian 12.iso'") == 0
    assert prompt.obey("stop fedora.iso --json") == 0
    assert prompt.obey("") == 0
    assert paper.asked == [
        ("POST", "/api/v1/torrents"),
        ("POST", f"/api/v1/torrents/{'ab' * 20}/recheck"),
        ("POST", f"/api/v1/torrents/{'cd' * 20}/pause"),
    ]
    told = capsys.readouterr().out
    assert "new.iso: added" in told
    assert json.loads(told[told.index("[") :]) == [TORRENTS[1]]


def test_what_is_wrong_is_told_and_ends_nothing(prompt, capsys):
    assert prompt.obey("nonsense") == 2
    assert prompt.obey("list 'open") == 2
    assert prompt.obey("run") == 2
    assert prompt.obey("recheck") == 2
    assert prompt.obey("add /nowhere.torrent") == 74
    assert prompt.obey("create /nowhere") == 66
    assert prompt.obey("help recheck") == 0
    out, err = capsys.readouterr()
    assert "Hash all data" in out
    assert len(err.strip().splitlines()) >= 6
    assert "Traceback" not in err


def test_show_is_of_torrents_where_no_such_file_is(prompt, paper, tmp_path):
    (tmp_path / "x.torrent").write_bytes(make_torrent().blob)
    assert prompt.obey(f"show {tmp_path}/x.torrent") == 0
    assert paper.asked == []
    with contextlib.suppress(KeyError):  # the paper's answer is no torrent's
        prompt.obey("show fedora.iso")
    assert paper.asked == [("GET", f"/api/v1/torrents/{'cd' * 20}")]


def test_tab_completes_commands_names_and_paths(prompt, tmp_path):
    assert prompt.complete("", "rech") == ["recheck "]
    assert prompt.complete("recheck ", "deb") == ["'debian 12.iso' "]
    assert prompt.complete("info ", "cd") == [f"{'cd' * 20} "]
    assert prompt.complete("show ", "fed") == ["fedora.iso "]
    assert prompt.complete("stop ", "fed") == ["fedora.iso "]
    assert prompt.complete("list ", "--js") == ["--json "]
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.torrent").touch()
    assert prompt.complete("add ", f"{tmp_path}/f") == [f"{tmp_path}/file.torrent", f"{tmp_path}/folder/"]
    assert prompt.complete("list 'x", "") == []


def test_every_command_has_its_help_and_every_alias_its_command():
    for name in COMMANDS:
        told = CliRunner().invoke(bittern, ["help", name])
        assert (told.exit_code, "Example" in told.stdout) == (0, True), name
    assert set(ALIASES.values()) <= set(COMMANDS)
    assert not set(ALIASES) & set(COMMANDS)
    listed = CliRunner().invoke(bittern, ["help"]).stdout
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert CliRunner().invoke(bittern, ["help", "nonsense"]).exit_code == 2


@pytest.mark.parametrize("name", completion.SHELLS)
def test_completion_is_a_script_of_that_shell(name):
    told = CliRunner().invoke(bittern, ["completion", name])
    assert told.exit_code == 0
    assert "_BITTERN_COMPLETE" in told.stdout
    if name == "bash":
        subprocess.run(["bash", "-n"], input=told.stdout.encode(), check=True)


def test_names_are_not_offered_without_a_daemon(monkeypatch):
    def gone(ctx):
        raise SystemExit(69)

    monkeypatch.setattr(daemon, "reached", gone)
    assert completion.torrent_names(click.Context(bittern), None, "x") == []


def test_no_command_loads_what_it_does_not_need():
    code = "import sys, bittern.cli.commands as c; [c.bittern.get_command(None, n) for n in c.COMMANDS]"
    code += "; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"trio", "httpx", "rich", "asyncio", "starlette", "msgspec", "readline"} & set(loaded)


class _Web(http.server.BaseHTTPRequestHandler):
    blob = b""

    def do_GET(self):
        to = {
            "/to": "/a.torrent",
            "/magnet": "magnet:?xt=urn:btih:1",
            "/loop": "/loop",
            "/file": "file:///etc/passwd",
        }
        if self.path in to:
            self.send_response(302)
            self.send_header("Location", to[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path.startswith("/gone") else 200)
        self.end_headers()
        blob = bytes(1 << 20)
        with contextlib.suppress(OSError):
            for _ in range(40 if self.path == "/endless" else 0):
                self.wfile.write(blob)
            self.wfile.write(self.blob)

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    _Web.blob = make_torrent().blob
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_torrent_is_fetched_from_the_web(web):
    assert fetching.fetch(f"{web}/a.torrent") == make_torrent().blob == fetching.fetch(f"{web}/to")
    assert fetching.fetch(f"{web}/magnet") == b"magnet:?xt=urn:btih:1"


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/gone", 74, "404"),
        ("/loop", 74, "redirected more than 5 times"),
        ("/file", 64, "not on the web"),
        ("/endless", 64, "longer than any"),
    ],
)
def test_what_cannot_be_fetched_costs_a_sentence(web, path, status, told):
    with pytest.raises(fetching.FetchFailed, match=told) as caught:
        fetching.fetch(web + path)
    assert caught.value.status == status


def test_nobody_there_costs_a_sentence(prompt, capsys):
    assert prompt.obey("add http://127.0.0.1:1/x.torrent") == 74
    assert "cannot be fetched" in capsys.readouterr().err


def test_secrets_of_a_url_are_not_printed(web, prompt, capsys):
    secret = web.replace("//", "//me:hush@") + "/gone?passkey=hush"
    assert prompt.obey(f"add {secret}") == 74
    assert prompt.obey("add http://me:hush@127.0.0.1:hush/x.torrent") == 64
    told = capsys.readouterr().err
    assert "the server answers 404" in told
    assert "hush" not in told


def test_a_name_longer_than_a_file_can_have_is_a_torrents(prompt, capsys):
    assert prompt.obey(f"show {'x' * 5000}") != 99
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("ratio", ["nan", "inf", "-inf"])
def test_a_ratio_that_is_no_number(ratio, prompt, paper, capsys):
    assert prompt.obey(f"limit fedora.iso --ratio={ratio}") == 64
    assert "is no ratio" in capsys.readouterr().err
    assert paper.asked == []


def test_what_drips_is_given_up(web, monkeypatch):
    monkeypatch.setattr(fetching, "ALTOGETHER_S", -1.0)
    with pytest.raises(fetching.FetchFailed, match="is not here after"):
        fetching.fetch(f"{web}/a.torrent")


def test_names_and_trackers_are_changed(prompt, paper, capsys):
    assert prompt.obey("rename fedora.iso fedora.iso new.iso") == 0
    assert "fedora.iso is called new.iso now" in capsys.readouterr().out
    with contextlib.suppress(KeyError):  # the paper's answer lists no trackers
        prompt.obey("trackers fedora.iso --add udp://a:1 --remove http://b/announce")
    assert paper.asked == [
        ("POST", f"/api/v1/torrents/{'cd' * 20}/rename"),
        ("PATCH", f"/api/v1/torrents/{'cd' * 20}/trackers"),
        ("GET", f"/api/v1/torrents/{'cd' * 20}/trackers"),
    ]
    assert prompt.obey("rename '*' a b") == 66
    assert prompt.obey("rename fedora.iso a") == 2


def test_asking_the_daemon_loads_next_to_nothing(tmp_path):
    code = "import sys; from bittern.cli.commands import bittern\n"
    asked = f"bittern(['list', '--socket', '{tmp_path}/none'])"
    code += f"try: {asked}\nexcept SystemExit as end: print(end.code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, *loaded = done.stdout.split()
    assert (status, done.stderr) == ("69", "bittern does not answer: No such file or directory\n")
    assert not {"trio", "httpx", "rich", "asyncio", "msgspec"} & set(loaded)


@pytest.fixture
def stranger(tmp_path):
    """A socket at which something else than bittern answers; what it says is `.told`."""

    class Answers(socketserver.StreamRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.wfile.write(serving.told)

    with socketserver.UnixStreamServer(str(tmp_path / "s"), Answers) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b"200 OK\r\nContent-Length: 2\r\n\r\nok", "is not bittern"),
        (b"200 OK\r\nContent-Length: 2\r\n\r\n[]", "is not bittern"),
        (b'404 No\r\nContent-Length: 25\r\n\r\n{"error": {"message": 5}}', "5"),
        (b"404 No\r\nContent-Length: 2\r\n\r\n[]", "status 404"),
        (b"200 OK\r\nContent-Length: 9\r\n\r\n{}", "does not answer"),
        (b"\x1b[31m", "does not answer"),
    ],
)
def test_whatever_answers_it_is_one_line(stranger, told, said):
    stranger.told = b"HTTP/1.1 " + told
    done = CliRunner().invoke(bittern, ["stats", "--socket", stranger.server_address])
    assert done.exit_code in {66, 69}
    (line,) = done.stderr.splitlines()
    assert said in line
    assert line.isprintable()


def test_why_a_file_is_refused_is_told_also_before_all_of_it_was_sent(stranger, tmp_path):
    stranger.told = b'HTTP/1.1 413 No\r\nContent-Length: 38\r\n\r\n{"error": {"message": "that is much"}}'
    (tmp_path / "much").write_bytes(bytes(2_000_000))
    done = CliRunner().invoke(bittern, ["add", str(tmp_path / "much"), "--socket", stranger.server_address])
    assert (done.exit_code, done.stderr) == (64, "that is much\n")


def test_what_never_ends_is_no_torrent(paper):
    top = click.Context(bittern, info_name="bittern")
    top.meta["bittern.daemon"] = paper
    with top:
        done = CliRunner().invoke(bittern, ["add", "/dev/zero"], parent=top)
    assert (done.exit_code, done.stderr) == (64, "/dev/zero: is longer than any .torrent\n")
    assert not paper.asked


def test_a_link_that_is_not_utf_8_is_for_the_daemon_to_refuse(stranger):
    stranger.told = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"
    link = os.fsdecode(b"magnet:\xff")
    done = CliRunner().invoke(bittern, ["add", link, "--socket", stranger.server_address])
    assert (done.exit_code, done.stderr) == (64, "bittern answered with status 400\n")


def test_whatever_prints_something_prints_json_too():
    talks = {"run", "shell", "help", "completion", "passwd"}
    for name in COMMANDS.keys() - talks:
        command = bittern.get_command(None, name)
        for one in command.commands.values() if isinstance(command, click.Group) else [command]:
            assert any("--json" in option.opts for option in one.params), (name, one.name)
