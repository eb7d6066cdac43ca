"""On what terms a torrent is added: all that is said of it beside the .torrent or the link itself."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from bittern.errors import OptionError
from bittern.policy.labels import label_fault
from bittern.policy.limits import NO_LIMITS, changed
from bittern.policy.ordering import PRIORITY_MOST
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.policy.selection import Choice

NO_CHOICE: Final = Choice()


@dataclass(frozen=True, slots=True)
class AddTerms:
    """Whoever adds a torrent says this, however it comes; what is left out is as for all, or unknown. None: nothing is
    said of that, so that what was said before holds, or what holds for all; "", () and False are words like others.

    `OptionError` names the field that cannot be. A selection may still turn out not to fit the torrent
    (`FileSelectionError` when it is added).
    """

    downloads: str
    """The folder where its data goes; a relative one begins at the working directory."""
    _: KW_ONLY
    folder_said: bool = True
    """False: `downloads` and `incomplete` are only where it goes unless somebody has said otherwise before."""
    incomplete: str = ""
    """The folder where its data lies until it is complete; "": `downloads` too."""
    label: str | None = None
    """Its labels, commas between (`policy.labels`)."""
    priority: int | None = None
    """In the queue; the higher the sooner, and below 0 later than others."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Of its own rates, peers, and ends of seeding what is said, by the names of `Limits`."""
    selection: Choice = NO_CHOICE
    """Which of its files are wanted, and how soon; all of them, when nothing is chosen."""
    sequential: bool | None = None
    """Its pieces are fetched in their order."""
    rights: Rights = NO_RIGHTS
    """Of the files and folders that are made for it."""
    hooks: tuple[str, ...] | None = None
    """Names of hooks that are told of it beside those without a name."""
    watch: str = ""
    """The watched folder that it was dropped into; "" when it came another way."""
    drop_path: str = ""
    """The dropped file, or ""."""
    tie: bool = False
    """It goes when the dropped file goes."""
    receipt: str = ""
    """The dropped file beside which its state is told, or ""."""

    def __post_init__(self) -> None:
        _require_folder("downloads", self.downloads)
        if self.incomplete:
            _require_folder("incomplete", self.incomplete)
        if self.label is not None and (fault := label_fault(self.label)):
            raise OptionError(f"label: {fault}")
        if self.priority is not None and (
            type(self.priority) is not int or abs(self.priority) > PRIORITY_MOST
        ):
            raise OptionError(f"priority is a whole number from -{PRIORITY_MOST} to {PRIORITY_MOST}")
        try:
            changed(NO_LIMITS, self.limits)
        except ValueError as error:
            raise OptionError(f"limits: {error}") from None
        if self.tie and not self.drop_path:
            raise OptionError("tie: there is no drop_path whose end it could follow")
        if any(not name or "," in name for name in self.hooks or ()):
            raise OptionError("hooks are a tuple of names, without commas")


def _require_folder(name: str, path: object) -> None:
    if isinstance(path, str) and path and "\0" not in path:
        try:
            path.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            # a lone surrogate that stands for no byte
            pass
        else:
            return
    raise OptionError(f"{name} is the path of a folder, a text without NUL: {path!r}")
