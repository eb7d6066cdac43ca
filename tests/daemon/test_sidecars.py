"""Sidecars and profiles on the way in: what they say is followed as far as the configuration lets them."""

import json
import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog
import trio

from bittern.daemon import sweep
from bittern.daemon.config import Config, Hook, Watch, default_config
from bittern.daemon.drop_terms import Terms
from bittern.daemon.intake import Intake
from bittern.daemon.listing import list_folder
from bittern.daemon.modes import FileMode, Group, Umask
from bittern.daemon.profile_schema import Profile
from bittern.daemon.profiles import Profiles
from bittern.daemon.sidecars import SidecarError, look_at_sidecar, parse_sidecar
from bittern.daemon.sweep import FolderState
from bittern.engine.supervision import Supervisor
from bittern.policy.add_terms import AddTerms
from bittern.policy.rights import Rights
from bittern.policy.selection import Choice
from bittern.proto.magnet import parse_magnet
from tests.fakes.drops import DropSession, hash_of, torrent
from tests.fakes.torrents import make_torrent

LINK = "magnet:?xt=urn:btih:" + "ab" * 20 + "&dn=A+Film&tr=http://t.example.org/announce"

PATTERNS = [f"{'x' * 97}{number:03}" for number in range(50)]


class World:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.drop, self.downloads = base / "drop", base / "dl"
        self.drop.mkdir()
        (self.downloads / "films").mkdir(parents=True)
        self.session = DropSession()

    def config(self, *profiles: Profile) -> Config:
        made = default_config(self.base)
        paths = msgspec.structs.replace(made.paths, downloads=str(self.downloads))
        return msgspec.structs.replace(
            made,
            paths=paths,
            watch=(Watch(folder=str(self.drop)),),  # type: ignore[arg-type]
            profile=profiles,
            hook=(Hook(on=("completed",), command=("/x",), name="unpack"),),
        )

    def intake(
        self,
        *profiles: Profile,
        grace_s: float = 0.0,
        after_add: str = "move",
        tie: bool = False,
        label: str = "own",
        priority: int = 1,
    ) -> Intake:
        terms = Terms(
            folder=str(self.drop),
            after_add=after_add,  # type: ignore[arg-type]
            downloads=str(self.downloads),
            incomplete="",
            label=label,
            priority=priority,
            tie=tie,
            sidecar_grace_s=grace_s,
            profiles=Profiles.of(self.config(*profiles)),
        )
        return Intake(terms, FolderState(), self.session, Supervisor(lambda event: None, strict=True))

    def write(self, name: str, text: str, *, age_s: float = 10.0) -> Path:
        path = self.drop / name
        path.write_text(text)
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    @property
    def taken(self) -> AddTerms:
        [one] = self.session.torrents.values()
        return one


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(sweep, "LOOK_AGAIN_S", 0.02)
    return World(tmp_path)


async def looked_at(intake: Intake, name: str, times: int = 2) -> None:
    for _ in range(times):
        await intake.take_in(name)
        await trio.sleep(0.03)


async def test_a_sidecar_is_followed_and_goes_with_its_drop(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    world.write(
        "a.toml",
        'downloads = "films"\nlabel = "f"\npriority = 7\nhooks = ["unpack"]\n'
        'download_rate = "1 MiB"\nseed_ratio = 3.0\ntake = ["*.mkv"]\nskip = ["Sample"]\n',
    )
    await world.intake().take_in("a.torrent")
    taken = world.taken
    assert taken.downloads == str(world.downloads / "films")
    assert (taken.label, taken.priority, taken.hooks) == ("f", 7, ("unpack",))
    assert taken.selection == Choice(only=("*.mkv",), skip=("Sample",))
    assert taken.limits == {
        "download_rate": 1024 * 1024,
        "download_limited": True,
        "seed_ratio": 3.0,
        "seed_ratio_mode": "own",
    }
    assert sorted(path.name for path in (world.drop / "accepted").iterdir()) == ["a.toml", "a.torrent"]
    assert [path.name for path in world.drop.iterdir()] == ["accepted"]


async def test_what_is_said_to_be_none_is_told_from_what_is_not_said(world: World) -> None:
    """So that what the torrent's own link said holds only where nothing else is."""
    intake = world.intake(label="", priority=0)
    world.write("1.toml", 'priority = 0\nlabel = ""\nhooks = []')
    told = []
    for number in "12":
        (world.drop / f"{number}.torrent").write_bytes(torrent(number))
        await intake.take_in(f"{number}.torrent")
        terms = world.session.torrents[hash_of(torrent(number))]
        told.append((terms.priority, terms.label, terms.hooks))
    assert told == [(0, "", ()), (None, None, None)]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", {}),
        ("download_rate = 0", {"download_limited": False}),
        ("seed_for_ever = false", {"seed_ratio_mode": "rules", "seed_idle_mode": "rules"}),
        ("seed_for_ever = true", {"seed_ratio_mode": "never", "seed_idle_mode": "never"}),
        ("seed_ratio = 0", {"seed_ratio_mode": "rules"}),
        (
            'seed_idle = "1h"\nseed_for_ever = false',
            {"seed_ratio_mode": "rules", "seed_idle_s": 3600.0, "seed_idle_mode": "own"},
        ),
    ],
)
async def test_no_limit_is_told_from_none_said(world: World, text: str, limits: dict[str, Any]) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    world.write("a.toml", text)
    await world.intake().take_in("a.torrent")
    assert world.taken.limits == limits


async def test_rights_are_those_of_profiles_less_what_a_sidecar_takes(world: World) -> None:
    group = os.getegid()
    profile = Profile(name="media", umask=Umask(0o007), group=Group(group), watch=(str(world.drop),))
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    world.write("a.toml", f'file_mode = "0640"\ngroup = {group}')
    (world.drop / "b.torrent").write_bytes(torrent("2"))
    intake = world.intake(profile)
    await intake.take_in("a.torrent")
    assert world.taken.rights == Rights(file_mode=0o640, folder_mode=0o770, group=group)
    await intake.take_in("b.torrent")
    assert world.session.torrents[hash_of(torrent("2"))].rights == Rights(
        file_mode=0o660, folder_mode=0o770, group=group
    )


async def test_without_one_all_is_as_ever(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    await world.intake().take_in("a.torrent")
    assert world.taken == AddTerms(
        str(world.downloads),
        label="own",
        priority=1,
        watch=str(world.drop),
        drop_path=str(world.drop / "a.torrent"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('downloads = "/etc"', "outside the folders"),
        ('downloads = "../../elsewhere"', "outside the folders"),
        ('downloads = "way-out/x"', "outside the folders"),
        ('downloads = "films/\\u0000"', "no folder can have"),
        ('downloads = ""', "empty"),
        ('hooks = ["/bin/sh"]', "has no hook of that name; it has unpack"),
        ('command = ["/bin/sh"]', "unknown key"),
        ("label = 3", "a short text"),
        ('label = "a\\tb"', "control character"),
        ('file_mode = "0664"', "file_mode: 0664 gives more than 0640"),
        ('umask = "0002"', "gives more than"),
        ('folder_mode = "0775"', "folder_mode: 0775 gives more than 0755"),
        ('file_mode = "0666"', "everybody could write"),
        ("group = 4", "gives no files to that group; it has"),
        ('lable = "x"', 'did you mean "label"'),
        ("label = ", "not valid TOML"),
        ("x = " + "[" * 5000, "a.toml"),
        ("#" * (65 * 1024), "larger than 64 KiB"),
        (f"take = {PATTERNS}\nskip = {PATTERNS}", "a.toml: take, skip: patterns of 10000 bytes"),
        (f"skip = {PATTERNS}", "with those of profiles: patterns of 10000 bytes"),
    ],
)
async def test_what_a_sidecar_may_not_say_refuses_the_drop(world: World, text: str, words: str) -> None:
    (world.downloads / "way-out").symlink_to(world.base)
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    world.write("a.toml", text)
    before = os.umask(0o022)
    with structlog.testing.capture_logs() as log:
        narrow = Profile(name="narrow", file_mode=FileMode(0o640), take=tuple(PATTERNS))
        await looked_at(world.intake(narrow), "a.torrent")
    os.umask(before)
    assert not world.session.torrents
    (line,) = [one for one in log if one["event"] == "drop.rejected"]
    assert words in line["reason"]
    assert "\n" not in line["reason"]
    assert sorted(path.name for path in (world.drop / "rejected").iterdir()) == [
        "a.toml",
        "a.torrent",
        "a.torrent.reason.txt",
    ]


@pytest.mark.parametrize("trap", ["link", "folder", "fifo"])
async def test_what_only_looks_like_a_sidecar(world: World, trap: str) -> None:
    secret = world.base / "secret"
    secret.write_text('password = "s3cret"')
    path = world.drop / "a.toml"
    {"link": lambda: path.symlink_to(secret), "folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}[trap]()
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    with structlog.testing.capture_logs() as log, trio.fail_after(60):
        await looked_at(world.intake(), "a.torrent")
    (line,) = [one for one in log if one["event"] == "drop.rejected"]
    assert "no plain file" in line["reason"]
    assert "s3cret" not in str(log)


async def test_one_that_is_being_written_is_waited_for(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    world.write("a.toml", 'label = "half', age_s=0)
    intake = world.intake()
    await looked_at(intake, "a.torrent")
    assert not world.session.torrents
    world.write("a.toml", 'label = "whole"')
    await looked_at(intake, "a.torrent", 1)
    assert world.taken.label == "whole"


async def test_the_grace_time_is_waited_for_one_that_comes_late(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    intake = world.intake(grace_s=60.0)
    await looked_at(intake, "a.torrent", 3)
    assert not world.session.torrents
    world.write("a.toml", 'label = "late"')
    await looked_at(intake, "a.torrent", 1)
    assert world.taken.label == "late"


async def test_the_grace_time_ends(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    intake = world.intake(grace_s=0.05)
    await intake.take_in("a.torrent")
    assert not world.session.torrents
    await trio.sleep(0.06)
    await intake.take_in("a.torrent")
    assert world.taken.label == "own"


async def test_profiles_look_into_torrents_and_links(world: World) -> None:
    made = make_torrent("A Film", size=500_000, trackers=[["http://t.example.org/announce"]])
    rows = (
        Profile(name="big", at_least=400_000, label="big"),  # type: ignore[arg-type]
        Profile(name="film", torrent=("*film*",), tracker=("*.example.org",), label="film"),
        Profile(name="here", watch=(str(world.drop),), priority=9),
    )
    profiles = Profiles.of(world.config(*rows))
    assert profiles.look_inside(str(world.drop))
    assert not Profiles.of(world.config(rows[2])).look_inside(str(world.drop))
    (world.drop / "a.magnet").write_text(LINK)
    await looked_at(world.intake(*rows), "a.magnet")
    assert (world.taken.label, world.taken.priority) == ("film", 9)
    world.session.torrents.clear()
    (world.drop / "b.torrent").write_bytes(made.blob)
    # the session of these tests knows its own torrents only, but what it was told is all that matters
    told: list[AddTerms] = []

    async def add(blob: bytes, terms: AddTerms) -> object:
        told.append(terms)
        return await DropSession().add(torrent("x"), terms)

    world.session.add = add  # type: ignore[assignment]
    await looked_at(world.intake(*rows), "b.torrent", 1)
    assert (told[0].label, told[0].priority) == ("film", 9)


async def test_a_file_that_is_tied_is_not_judged_by_its_sidecar_again(world: World) -> None:
    (world.drop / "a.torrent").write_bytes(torrent("1"))
    await world.intake(after_add="keep", tie=True).take_in("a.torrent")
    world.write("a.toml", "nonsense")
    await looked_at(world.intake(after_add="keep", tie=True), "a.torrent")
    assert (world.drop / "a.torrent").exists()
    assert hash_of(torrent("1")) in world.session.torrents


def test_a_clock_ahead_of_ours_holds_up_no_sidecar(world: World) -> None:
    world.write("a.toml", 'label = "x"', age_s=-3600)
    look = look_at_sidecar(str(world.drop / "a.torrent"))
    assert look.sidecar is not None
    assert look.sidecar.label == "x"


@pytest.mark.parametrize("seed", range(30))
def test_any_bytes_are_a_sidecar_or_refused(seed: int) -> None:

    rng = random.Random(seed)
    words = [
        b"label",
        b" = ",
        b'"x"',
        b"\n",
        b"[",
        b"]",
        b"hooks",
        b"\xff",
        b"1979-05-27",
        b"9" * 5000,
        b"{",
        b"}",
        b".",
    ]
    blob = b"".join(rng.choice(words) for _ in range(rng.randrange(30)))
    told = ""
    try:
        parse_sidecar(blob, "a.toml")
    except SidecarError as error:
        told = str(error)
    assert "\n" not in told


@pytest.mark.parametrize("name", ["a.torrent", "a.magnet"])
async def test_a_drop_that_stays_is_not_refused_for_what_its_sidecar_says_later(
    world: World, name: str
) -> None:
    made = make_torrent("film", size=100)
    blob = made.blob if name == "a.torrent" else LINK.encode()
    (world.drop / name).write_bytes(blob)
    world.write("a.toml", "priority = 4")

    async def taken(_: object, terms: AddTerms) -> Any:
        info_hash = made.info_hash if name == "a.torrent" else parse_magnet(LINK).info_hash
        world.session.torrents[info_hash] = terms
        return SimpleNamespace(kind="added", info_hash=info_hash, name="film")

    world.session.add = world.session.add_magnet = taken  # type: ignore[method-assign]
    await looked_at(world.intake(after_add="keep"), name)
    assert world.taken.priority == 4
    world.write("a.toml", 'hooks = ["gone"]')
    await looked_at(world.intake(after_add="keep"), name, 3)
    assert sorted(one.name for one in world.drop.iterdir()) == sorted(["a.toml", name])
    # another one is
    world.session.torrents.clear()
    await looked_at(world.intake(after_add="keep"), name, 3)
    assert (world.drop / "rejected" / name).exists()


@pytest.mark.parametrize("after", ["torrent", "sidecar"])
async def test_a_drop_that_is_gone_is_not_waited_for(world: World, after: str) -> None:
    intake = world.intake(grace_s=0.05)
    drop = world.drop / "a.torrent"
    drop.write_bytes(torrent("1"))
    await looked_at(intake, "a.torrent", 1)
    drop.unlink()
    await trio.sleep(0.05)
    if after == "torrent":
        intake.state.sweep(list_folder(str(world.drop)), {}, trio.current_time())
    drop.write_bytes(torrent("12"))
    # what waited was another one: this one has its own time
    await intake.take_in("a.torrent")
    assert not world.session.torrents
    world.write("a.toml", "priority = 4")
    await looked_at(intake, "a.torrent", 2)
    assert world.taken.priority == 4


def test_folders_that_cannot_be_and_keys_without_end() -> None:
    for folder in ("a" * 256, "x/" + "ü" * 128, "a\nb", "\u202eb"):
        with pytest.raises(SidecarError, match="no folder can have this name"):
            parse_sidecar(f"downloads = {json.dumps(folder)}".encode(), "a.toml")
    with pytest.raises(SidecarError) as caught:
        parse_sidecar(b"a" * 60_000 + b" = 1", "a.toml")
    assert len(str(caught.value)) < 2000
