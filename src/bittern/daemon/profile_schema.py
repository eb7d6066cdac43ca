"""What a [[profile]] of the configuration and a sidecar beside a drop may say."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from bittern.daemon.config_reader import Folder
from bittern.daemon.durations import Duration
from bittern.daemon.modes import FileMode, FolderMode, Group, Umask, rights_of
from bittern.daemon.sizes import Rate, Size
from bittern.policy import profiles

_Globs: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(max_length=1000)], ...],
    Meta(max_length=100, description='a list of patterns such as ["*.example.org", "tv-*"]'),
]
_FileGlobs: TypeAlias = Annotated[
    Annotated[
        # all together no more than one choice may hold, which is judged apart
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=100)
    ]
    | None,
    Meta(description='a list of patterns of files such as ["*.mkv", "extras/*"]'),
]
_Words: TypeAlias = Annotated[
    Annotated[tuple[str, ...], Meta(max_length=100)] | None,
    Meta(description='a list of names of hooks such as ["unpack"]'),
]
_Label: TypeAlias = Annotated[
    Annotated[str, Meta(max_length=255)] | None,
    Meta(description="a short text; commas part several"),
]
_Priority: TypeAlias = Annotated[
    Annotated[int, Meta(ge=-1000, le=1000)] | None,
    Meta(description="a whole number from -1000 to 1000"),
]
_Rate: TypeAlias = Annotated[
    Rate | None, Meta(description='bytes per second, such as 500000 or "10 MiB", 0 for no limit')
]
_Ratio: TypeAlias = Annotated[
    Annotated[float, Meta(ge=0, le=1e6)] | None, Meta(description="a number such as 2.0")
]
_Idle: TypeAlias = Annotated[Duration | None, Meta(description='a time such as "90m", "72h" or "14d"')]
_MaybeFlag: TypeAlias = Annotated[bool | None, Meta(description="true or false")]


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """Of the files and folders that are made; None: nothing is said of that."""

    file_mode: Annotated[FileMode | None, Meta(description='octal digits such as "0640"')] = None
    folder_mode: Annotated[FolderMode | None, Meta(description='octal digits such as "0750"')] = None
    umask: Annotated[Umask | None, Meta(description='octal digits such as "0027"')] = None
    group: Annotated[Group | None, Meta(description='the name or the number of a group, such as "media"')] = (
        None
    )


class Wishes(Permissions, frozen=True, kw_only=True):
    """What is wanted of a torrent; None: nothing is said of that."""

    label: _Label = None
    priority: _Priority = None
    take: _FileGlobs = None
    skip: _FileGlobs = None
    download_rate: _Rate = None
    upload_rate: _Rate = None
    seed_ratio: _Ratio = None
    seed_idle: _Idle = None
    seed_for_ever: _MaybeFlag = None
    hooks: _Words = None

    def wish(self, downloads: str | None) -> profiles.Wish:
        """What is decided on."""
        rights = rights_of(self)
        return profiles.Wish(
            file_mode=rights.file_mode,
            folder_mode=rights.folder_mode,
            group=rights.group,
            downloads=downloads,
            label=self.label,
            priority=self.priority,
            take=self.take,
            skip=self.skip,
            download_rate=None if self.download_rate is None else float(self.download_rate),
            upload_rate=None if self.upload_rate is None else float(self.upload_rate),
            seed_ratio=self.seed_ratio,
            seed_idle_s=None if self.seed_idle is None else float(self.seed_idle),
            seed_for_ever=self.seed_for_ever,
            hooks=self.hooks,
        )


class Profile(Wishes, frozen=True, kw_only=True):
    """Wishes, and the drops that they are for; `downloads` "" = nothing is said of that."""

    name: Annotated[str, Meta(min_length=1, max_length=255, description="a short text")]
    watch: Annotated[
        tuple[Annotated[str, Meta(max_length=4000)], ...],
        Meta(max_length=100, description='a list of watched folders such as ["/srv/bittern/drop/films"]'),
    ] = ()
    torrent: _Globs = ()
    tracker: _Globs = ()
    at_least: Annotated[Size, Meta(description='a size such as "700 MiB", 0 for any')] = Size(0)
    at_most: Annotated[Size, Meta(description='a size such as "4 GiB", 0 for any')] = Size(0)
    downloads: Annotated[Folder, Meta(description='a folder, such as "/srv/bittern/films"')] = Folder("")

    def policy(self) -> profiles.Profile:
        """What is decided on."""
        return profiles.Profile(
            name=self.name,
            watch=self.watch,
            torrent=self.torrent,
            tracker=self.tracker,
            at_least_bytes=int(self.at_least),
            at_most_bytes=int(self.at_most) or None,
            wish=self.wish(str(self.downloads) or None),
        )


class Sidecar(Wishes, frozen=True, kw_only=True):
    """Wishes of whoever dropped the file, who is not trusted: `downloads` is looked at before it is followed."""

    downloads: Annotated[
        Annotated[str, Meta(max_length=4000)] | None, Meta(description='a folder such as "films"')
    ] = None
