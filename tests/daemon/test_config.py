import os
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bittern.daemon.config import (
    Config,
    Hook,
    Hooks,
    Notify,
    Watch,
    Webhook,
    changes,
    default_config,
    load_config,
    load_places,
)
from bittern.daemon.config_reader import Folder
from bittern.daemon.placeholders import PlaceholderError, fill, parse_argument
from bittern.daemon.sizes import parse_rate, parse_size
from bittern.errors import ConfigError
from bittern.policy import seedrules
from bittern.proto.endpoint import parse_endpoint

SHIPPED = Path(__file__).parents[2] / "etc" / "bittern.toml"


@pytest.fixture
def load(tmp_path):
    def write_and_load(text, environ=()):
        path = tmp_path / "b.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, environ=dict(environ))

    return write_and_load


def faults(load, text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    for line in caught.value.faults:
        assert "\n" not in line
        assert line.isprintable()
        assert line.split(": ")[0].endswith("b.toml")
    return [line.split(": ", 1)[1] for line in caught.value.faults]


# ------------------------------------------------------------------------------------- the shipped file

UNCOMMENTED = re.sub(r"(?m)^#(?=\[\[|\w+ = )", "", SHIPPED.read_text())
REQUIRED = {
    Hook: {"on": ("added",), "command": ("/x",)},
    Webhook: {"on": ("added",), "url": "http://x"},
    Notify: {"on": ("added",), "urls": ("json://x",)},
}


def test_shipped_file_is_accepted_and_equals_the_defaults():
    shipped = load_config(SHIPPED, environ={})
    assert shipped == Config(
        watch=(Watch(folder=Folder("/srv/bittern/drop")),), hooks=Hooks(folder=Folder("/etc/bittern/hooks.d"))
    )


def test_shipped_file_names_every_key():
    table = tomllib.loads(UNCOMMENTED)

    def keys(struct):
        return {field.encode_name for field in msgspec.structs.fields(struct)}

    from bittern.daemon import config_schema as schema

    assert set(table) == keys(schema.Config)
    for name, struct in {
        "paths": schema.Paths,
        "network": schema.Network,
        "limits": schema.Limits,
        "queue": schema.Queue,
        "storage": schema.Storage,
        "scrub": schema.Scrub,
        "hooks": schema.Hooks,
        "control": schema.Control,
        "web": schema.Web,
        "log": schema.Log,
    }.items():
        assert set(table[name]) == keys(struct), name
    for name, row in {
        "watch": schema.Watch,
        "profile": schema.Profile,
        "hook": schema.Hook,
        "webhook": schema.Webhook,
        "notify": schema.Notify,
        "schedule": schema.Schedule,
        "seed": schema.Seed,
        "seed_guard": schema.SeedGuard,
    }.items():
        assert set(table[name][0]) == keys(row), name


def test_shipped_examples_work_when_uncommented(load):
    config = load(UNCOMMENTED)
    assert config.hook[0].command == ("/etc/bittern/hooks/done", "{name}")
    assert config.webhook[0].template
    assert config.notify[0].urls
    assert config.engine().seed_rules[0].when == (
        seedrules.Amounts(ratio=2.0, seed_time_s=259200.0),
        seedrules.Amounts(idle_s=1209600.0),
    )
    assert config.engine().seed_guards[0].until == (seedrules.Amounts(seed_time_s=259200.0),)
    for name in ("timeout_s", "retries", "retry_after_s", "label", "tracker"):
        for row in (config.hook[0], config.webhook[0], config.notify[0]):
            assert getattr(row, name) == getattr(type(row)(**REQUIRED[type(row)]), name), (
                "the default is shown"
            )


# ------------------------------------------------------------------------------------- seed rules


def test_a_seed_rule_is_named_by_its_number_and_its_folder_starts_at_the_file(load, tmp_path):
    text = '[[seed]]\nwhen = [{ratio = 1}]\naction = "stop"\n'
    text += '[[seed]]\nwhen = [{idle = "2w"}]\naction = "move"\nfolder = "old"\nlabel = ["x"]\n'
    assert load(text).engine().seed_rules == (
        seedrules.SeedRule(name="seed 1", when=(seedrules.Amounts(ratio=1.0),), action="stop"),
        seedrules.SeedRule(
            name="seed 2",
            when=(seedrules.Amounts(idle_s=1209600.0),),
            action="move",
            folder=str(tmp_path / "old"),
            scope=seedrules.Scope(label=("x",)),
        ),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[seed]]\nwhen = []\naction = "stop"', "seed[0].when: empty: write"),
        ('[[seed]]\nwhen = [{}]\naction = "stop"', "seed[0].when[0]: names nothing"),
        ('[[seed]]\naction = "stop"', "seed[0].when: empty: write"),
        ('[[seed]]\nwhen = [{ratio = 1}]\naction = "delete"', "seed[0].action: "),
        ('[[seed]]\nwhen = [{ratio = 1}]\naction = "move"', 'seed[0].folder: action = "move" needs'),
        ('[[seed]]\nwhen = [{ratio = 1}]\naction = "stop"\nfolder = "x"', "seed[0].folder: goes with"),
        ('[[seed]]\nwhen = [{idle = "3 moons"}]\naction = "stop"', "seed[0].when[0].idle: unknown unit"),
        ('[[seed]]\nwhen = [{idle = "72"}]\naction = "stop"', "seed[0].when[0].idle: has no unit"),
        ('[[seed]]\nwhen = [{idle = -1}]\naction = "stop"', "seed[0].when[0].idle: negative"),
        ("[[seed_guard]]\nuntil = [{}]", "seed_guard[0].until[0]: names nothing"),
        ('[[schedule]]\nfrom = "24:30"\nto = "8:00"', "schedule[0].from: got"),
        ('[[schedule]]\nfrom = "8:00"', "schedule[0].to: missing: write a time"),
        ('[[schedule]]\nfrom = "8:00"\nto = "9:00"\ndays = ["mo"]', "schedule[0].days: "),
    ],
)
def test_seed_rules_and_schedules_that_cannot_work(load, text, fault):
    found = faults(load, text)
    assert any(line.startswith(fault) for line in found), found


# ------------------------------------------------------------------------------------- values


def test_empty_file_is_all_defaults(load, tmp_path):
    assert load("") == Config(hooks=Hooks(folder=Folder(tmp_path / "hooks.d")))


def test_relative_paths_start_at_the_file(load, tmp_path):
    config = load('[paths]\nstate = "st"\ndownloads = "../dl/"\n[[watch]]\nfolder = "./a/../drop"')
    assert config.paths.state == str(tmp_path / "st")
    assert config.paths.downloads == str(tmp_path.parent / "dl")
    assert config.watch[0].folder == str(tmp_path / "drop")
    assert config.watch[0].downloads == ""


def test_of_a_file_with_faults_its_folders_can_be_read(load, tmp_path):
    text = '[paths]\nstate = "st"\n[control]\nsocket = "sock"\n[network]\nport = "many"\n[[hook]]\n'
    assert len(faults(load, text)) == 3
    found = load_places(tmp_path / "b.toml", usual=False, environ={"STATE_DIRECTORY": "/none"})
    assert found.paths.state == str(tmp_path / "st")
    assert found.control.socket == str(tmp_path / "sock")


@pytest.mark.parametrize("usual", [True, False])
@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("watch = 3\n", "/one"),
        ("[paths]\nstate = 3", None),
        ("no toml", None),
        # these were meant to say where the state folder is
        ('[path]\nstate = "st"', None),
        ('state = "st"', None),
        ('[network]\nport = 0\n[pahts]\nstate = "st"', None),
    ],
)
def test_nobody_is_led_to_another_daemon_by_a_fault(tmp_path, text, state, usual):
    (tmp_path / "b.toml").write_text(text)
    if state is not None:
        found = load_places(tmp_path / "b.toml", usual=usual, environ={"STATE_DIRECTORY": state})
        assert found.paths.state == state
    if state is None or not usual:
        with pytest.raises(ConfigError):
            load_places(tmp_path / "b.toml", usual=usual, environ={})


def test_state_comes_from_the_unit_unless_written(load):
    environ = {"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}
    assert load("", environ).paths.state == "/var/lib/one"
    assert load('[paths]\nstate = "/x"', environ).paths.state == "/x"


def test_engine_settings(load, tmp_path):
    config = load(
        """
        paths.state = "/s"
        paths.downloads = "/d"
        watch = [{folder = "/w", downloads = "/e"}]
        limits = {download_rate = "1 MiB/s", upload_slots = 4, piece_memory = "8 MiB"}
        network = {listen = ["::", "127.0.0.1"], port = 0, max_peers = 20, udp_port = 7}
        storage.preallocate = true
        """
    )
    settings = config.engine()
    assert settings.download_rate == 1024 * 1024
    assert settings.upload_rate is None
    assert settings.upload_slots == 4
    assert settings.piece_memory == 8 * 1024 * 1024
    assert settings.listen == ("::", "127.0.0.1")
    assert settings.max_peers_per_torrent == 20
    assert settings.udp_port == 7
    assert settings.dial_scope == "any"
    assert load('network = {dial_scope = "this-host"}').engine().udp_port is None
    assert settings.preallocate is True
    hooks = str(tmp_path / "hooks.d")
    assert set(settings.reserved) == {"/s", "/d", "/e", "/w", "/w/accepted", "/w/rejected", hooks}


def test_default_config_lies_below_var(tmp_path):
    config = default_config(tmp_path)
    assert config.watch[0].folder == f"{tmp_path}/var/drop"
    assert config.paths.downloads == f"{tmp_path}/var/downloads"
    assert config.paths.state == f"{tmp_path}/var/state"


def test_config_is_hashable_and_frozen(load):
    config = load('watch = [{folder = "/w"}]')
    with pytest.raises(AttributeError):
        config.paths = None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0),
        (1234, 1234),
        ("10", 10),
        ("10 MiB", 10 << 20),
        ("10MB", 10_000_000),
        ("1.5 GiB", 3 << 29),
        ("0.5 kb", 500),
        ("  7 KiB ", 7168),
        ("0.1 MB", 100_000),
    ],
)
def test_sizes(written, expected):
    assert parse_size(written) == expected


@pytest.mark.parametrize(
    "written",
    [-1, True, 1.5, None, [], "", "MiB", "-1 MiB", "1 Mb", "1 XB", "1e9", "1 MiB/s", 2**61, "9" * 31],
)
def test_bad_sizes(written):
    with pytest.raises(ValueError, match=r"\w"):
        parse_size(written)


def test_rates():
    assert parse_rate("10 MiB/s") == parse_rate("10MiB /s") == parse_rate(10 << 20) == 10 << 20


@given(st.text())
def test_any_text_is_a_size_or_refused(text):
    try:
        assert parse_size(text) >= 0
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("router.example:6881", ("router.example", 6881)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[2001:db8::1]:7", ("2001:db8::1", 7)),
        ("router.example", None),
        ("router.example:0", None),
        ("router.example:x", None),
        ("router.example:6881111111111111", None),
        (":6881", None),
        ("2001:db8::1:7", None),
        ("two words:7", None),
        ("a" * 300 + ":7", None),
    ],
)
def test_endpoints(text, wanted):
    assert parse_endpoint(text) == wanted


# ------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("[network]\nprot = 1", "network.prot", '"port"'),
        ("[network]\nmax-peers = 1", "network.max-peers", '"max_peers"'),
        ("[network]\npex2 = true", "network.pex2", "remove it"),
        ("[network]\ndht = 1", "network.dht", "true or false"),
        ("[network]\ndht_bootstrap = ['router.example']", "network.dht_bootstrap[0]", "6881"),
        ("[network]\ndht_bootstrap = ['a:1', '::1:7']", "network.dht_bootstrap[1]", "[::1]"),
        ("[network]\ndht_bootstrap = ['a:65536']", "network.dht_bootstrap[0]", "6881"),
        ("[network]\ndht_bootstrap = ':1'", "network.dht_bootstrap", "a list"),
        ("[netwrok]\nport = 1", "netwrok", '"network"'),
        ("network = 3", "network", "[network]"),
        ("[watch]\nfolder = '/w'", "watch", "[[watch]]"),
        ("[[watch]]\nlabel = 'x'", "watch[0].folder", "missing"),
        ("[[watch]]\nfolder = ''", "watch[0].folder", "empty"),
        ("[[watch]]\nfolder = '/w'\nafter_add = 'mov'", "watch[0].after_add", '"move"'),
        ("[[watch]]\nfolder = '/w'\ntie = true", "watch[0].tie", 'after_add = "keep"'),
        ('[[watch]]\nfolder = "/w"\nlabel = "a\\tb"', "watch[0].label", "control character"),
        ("[[watch]]\nfolder = '/w'\n[[watch]]\nfolder = '/w/'", "watch[1].folder", "watch[0]"),
        ("[[watch]]\nfolder = '/w'\n[[watch]]\nfolder = '/w/accepted'", "watch[1].folder", '"/w"'),
        ("[[watch]]\nfolder = '/var/lib/bittern/t'", "watch[0].folder", "paths.state"),
        ("[[watch]]\nfolder = '/x'\ndownloads = '/var/lib/bittern'", "watch[0].downloads", "paths.state"),
        ("[paths]\ndownloads = '/var/lib/bittern/resume/x'", "paths.downloads", "records"),
        ("[paths]\nstate = ''", "paths.state", "empty"),
        ("[paths]\nstate = '~/x'", "paths.state", "not expanded"),
        ('[paths]\nstate = "a\\u0000b"', "paths.state", "NUL"),
        ("[paths]\nincomplete = '/srv/bittern/downloads'", "paths.incomplete", "same"),
        ("[network]\nport = 65536", "network.port", "65535"),
        ("[network]\nport = -1", "network.port", "0"),
        ("[network]\nport = '1729'", "network.port", "a port"),
        ("[network]\nport = true", "network.port", "a port"),
        ("[network]\nlisten = '0.0.0.0'", "network.listen", "a list"),
        ("[network]\nlisten = []", "network.listen", "a list"),
        ("[network]\nlisten = ['localhost']", "network.listen[0]", "numeric"),
        ("[network]\nlisten = ['::1', '0:0::1']", "network.listen[1]", "twice"),
        ("[network]\nlisten = ['fe80::1%eth0']", "network.listen[0]", "zone"),
        ("[network]\nudp_port = 'other'", "network.udp_port", '"same"'),
        ("[network]\nudp_port = 65536", "network.udp_port", "65535"),
        ("[network]\ndial_scope = 'lan'", "network.dial_scope", '"this-host"'),
        ("[network]\nmax_peers = 0", "network.max_peers", "1 to"),
        ("[limits]\npiece_memory = '3 MiB'", "limits.piece_memory", "4 MiB"),
        ("[limits]\npiece_memory = 'lots'", "limits.piece_memory", "unit"),
        ("[limits]\nupload_rate = -5", "limits.upload_rate", "negative"),
        ("[limits]\nupload_slots = 'outo'", "limits.upload_slots", '"auto"'),
        ("[limits]\nupload_slots = 0", "limits.upload_slots", "1 to"),
        ("[limits]\nopen_files = 1", "limits.open_files", "8"),
        ("[[hook]]\non = ['complete']\ncommand = ['/x']", "hook[0].on", '"completed"'),
        ("[[hook]]\non = []\ncommand = ['/x']", "hook[0].on", "a list"),
        ("[[hook]]\non = ['added']\ncommand = []", "hook[0].command", "a list"),
        ("[[hook]]\non = ['added']\ncommand = '/x'", "hook[0].command", "a list"),
        ("[[hook]]\non = ['added']\ncommand = ['x']", "hook[0].command[0]", "not a path"),
        ("[[hook]]\non = ['added']\ncommand = ['/{name}']", "hook[0].command[0]", "arguments"),
        ("[[hook]]\non = ['added']\ncommand = ['/x', '{nam}']", "hook[0].command[1]", "{name}"),
        ("[[hook]]\non = ['added']\ncommand = ['/x', '{name']", "hook[0].command[1]", "{{"),
        ("[[hook]]\non = ['added']\ncommand = ['/x']\ntimeout_s = 0", "hook[0].timeout_s", "above 0"),
        ("[[hook]]\non = ['added']\ncommand = ['/x']\ntimeout_s = nan", "hook[0].timeout_s", "above 0"),
        ("[log]\nlevel = 'wran'", "log.level", '"warning"'),
        ("[log]\nformat = 'xml'", "log.format", '"json"'),
        ('"ke\\ny" = 1', '"ke', "remove it"),
        ("a = ", "line 1", "TOML"),
        ("[a\nb = 1", "line 1", "TOML"),
        ("a = 1\na = 2", "line 2", "TOML"),
        ("# \xff".encode("latin-1"), "line 1", "UTF-8"),
        ("a = " + "9" * 5000, "not valid TOML", "digits"),
        ("a = " + "[" * 3000, "not valid TOML", "deep"),
    ],
)
def test_each_fault_names_its_key_and_the_remedy(load, text, where, says):
    (line,) = faults(load, text)
    assert line.startswith(where)
    assert says in line


def test_all_faults_are_told_at_once(load):
    told = faults(load, "[network]\nport = 'x'\nprot = 1\n[log]\nlevel = 1\n[[watch]]\nfolder='/a'\ntie=true")
    assert [line.split(": ")[0] for line in told] == [
        "network.port",
        "network.prot",
        "log.level",
        "watch[0].tie",
    ]


def test_a_row_that_cannot_be_read_does_not_shift_the_numbers_of_others(load):
    told = faults(load, "[[hook]]\non = ['added']\n[[hook]]\non = ['added']\ncommand = ['x']")
    assert [line.split(": ")[0] for line in told] == ["hook[0].command"]


@pytest.mark.parametrize("value", ["5", "true", "1.5", "{}", '"text"', "1979-05-27"])
def test_a_list_of_tables_that_is_no_list_is_a_fault(load, value):
    told = faults(load, f"watch = {value}\nhook = {value}")
    assert [line.split(": ")[0] for line in told] == ["watch", "hook"]


def test_a_missing_file_or_a_folder_is_a_fault(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(path)


def test_a_byte_order_mark_is_no_fault(load):
    assert load(b"\xef\xbb\xbf[network]\nport = 5").network.port == 5


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=60))
def test_any_bytes_give_a_config_or_faults(tmp_path_factory, blob):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(blob)
    try:
        load_config(path)
    except ConfigError:
        pass


# ------------------------------------------------------------------------------------- changes


def test_changes_tell_live_from_restart(load):
    old = load('watch = [{folder = "/w"}]')
    new = load(
        """
        paths = {state = "/s", downloads = "/d"}
        network.port = 1
        network.udp_port = 2
        network.dial_scope = "this-host"
        network.max_peers = 7
        network.listen = ["::"]
        network.dht = false
        network.pex = false
        network.lsd = false
        limits.upload_rate = "1 MiB"
        log.level = "debug"
        hooks.parallel = 3
        watch = [{folder = "/v"}]
        """
    )
    live, restart = changes(old, new)
    assert sorted(restart) == [
        "network.dht",
        "network.dial_scope",
        "network.listen",
        "network.lsd",
        "network.pex",
        "network.port",
        "network.udp_port",
        "paths.state",
    ]
    assert sorted(live) == [
        "hooks.parallel",
        "limits.upload_rate",
        "log.level",
        "network.max_peers",
        "paths.downloads",
        "watch",
    ]
    assert changes(new, new) == ([], [])


# ------------------------------------------------------------------------------------- placeholders


def test_placeholders_are_filled_inside_arguments_only():
    values = {"name": "a b; {path} $(x)", "path": "/d/\udcff", "info_hash": "00", "label": ""}
    command = ("/x", "{name}", "--to={path}", "{{{info_hash}}}", '{{"a":1}}', "{label}")
    assert [fill(argument, values) for argument in command] == [
        "/x",
        "a b; {path} $(x)",
        "--to=/d/\udcff",
        "{00}",
        '{"a":1}',
        "",
    ]


@given(st.text(alphabet="{}nameph ", max_size=20))
def test_any_argument_is_parsed_or_refused(argument):
    try:
        parts = parse_argument(argument)
    except PlaceholderError:
        return
    assert all(part.text in {"name", "path"} for part in parts if part.placeholder)


def test_environment_is_only_read_for_the_state_folder(load):
    assert load("", os.environ | {"STATE_DIRECTORY": ""}).paths.state == "/var/lib/bittern"


def test_a_hooks_relative_program_starts_at_the_files_folder(tmp_path):
    folder = tmp_path / "a {name} b"
    folder.mkdir()
    config = folder / "b.toml"
    config.write_text("[[hook]]\non = ['added']\ncommand = ['./hooks/../done', './x', 'hooks/y']")
    (hook,) = load_config(config).hook
    assert [fill(argument, {"name": "no"}) for argument in hook.command] == [
        f"{folder}/done",
        "./x",
        "hooks/y",
    ]


WEBHOOK = '[[webhook]]\non = ["added"]\n'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (WEBHOOK + 'url = "ftp://x/"', "webhook[0].url", "https://"),
        (WEBHOOK + 'url = "http://[x/"', "webhook[0].url", "https://"),
        (WEBHOOK, "webhook[0].url", "missing"),
        (WEBHOOK + 'url = "http://x"\nheaders = { "a b" = "c" }', "webhook[0].headers", "HTTP"),
        (WEBHOOK + 'url = "http://x"\nheaders = { a = "c\\nd: e" }', "webhook[0].headers", "HTTP"),
        (WEBHOOK + 'url = "http://x"\nheaders = { a = 1 }', "webhook[0].headers", "table"),
        (
            WEBHOOK + 'url = "http://x"\ntemplate = { a = [{ b = "{nam}" }] }',
            "webhook[0].template.a[0].b",
            "{name}",
        ),
        (WEBHOOK + 'url = "http://x"\ntemplate = { a = 2020-01-01 }', "webhook[0].template.a", "quotes"),
        ('[[notify]]\non = ["added"]\nurls = ["json://x"]\ntitle = "{"', "notify[0].title", "brace"),
        ('[[notify]]\non = ["added"]\nurls = []', "notify[0].urls", "list"),
        ('[[hook]]\non = ["added"]\ncommand = ["/x"]\nretries = -1', "hook[0].retries", "0 to 100"),
        ('[[hook]]\non = ["added"]\ncommand = ["/x"]\nretry_after_s = 0', "hook[0].retry_after_s", "above 0"),
    ],
)
def test_who_is_told_is_judged(load, text, place, words):
    (fault,) = faults(load, text)
    assert fault.startswith(f"{place}: ")
    assert words in fault


def test_a_notification_without_its_library(load, monkeypatch):
    monkeypatch.setattr("bittern.daemon.notifying.available", lambda: False)
    (fault,) = faults(load, '[[notify]]\non = ["added"]\nurls = ["json://x"]')
    assert fault.startswith("notify[0]: needs the library apprise")


@pytest.mark.parametrize(
    "text",
    [
        '[[notify]]\non = ["added"]\nurls = "mailto://me:s3cret@x"',
        WEBHOOK + 'url = ["http://x/?key=s3cret"]',
        WEBHOOK + 'url = "http://x"\nheaders = "Bearer s3cret"',
        WEBHOOK + 'url = "http://x"\nheaders = { Authorization = ["s3cret"] }',
        WEBHOOK + 'url = "gopher://s3cret"',
        'notify = ["mailto://me:s3cret@x"]',
        'webhook = "https://x/s3cret"',
    ],
)
def test_a_fault_shows_no_secret(load, text):
    told = faults(load, text)
    assert told
    assert "s3cret" not in "".join(told)


def test_a_secret_that_systemd_hands_over_is_found_where_it_lies(tmp_path, monkeypatch):
    config = tmp_path / "bittern.toml"
    config.write_text('[web]\npassword_file = "$CREDENTIALS_DIRECTORY/web.password"\n')
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="LoadCredential"):
        load_config(config)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/bittern.service")
    assert load_config(config).web.password_file == "/run/credentials/bittern.service/web.password"
