"""What can be said of a torrent that is added, and what of that cannot be."""

import pytest

from bittern.errors import OptionError
from bittern.policy.add_terms import AddTerms
from bittern.policy.selection import Choice


def test_all_that_can_be_said() -> None:
    AddTerms(
        "/dl",
        incomplete="/inc",
        label="films, old",
        priority=-1000,
        limits={"max_peers": 3},
        selection=Choice(skip=("*.nfo",)),
        hooks=("unpack",),
        drop_path="/drop/a\udcff.torrent",
        tie=True,
    )
    assert AddTerms("/d\udcff").downloads == "/d\udcff", "names of files need not be text"


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("downloads", {"downloads": ""}), ("downloads", {"downloads": "a\0b"}),
        ("downloads", {"downloads": "a\ud800"}), ("downloads", {"downloads": b"a"}),
        ("incomplete", {"incomplete": "a\0b"}), ("label", {"label": "a\tb"}), ("label", {"label": "x" * 256}),
        ("label", {"label": ",".join(map(str, range(65)))}), ("label", {"label": 7}), ("priority", {"priority": 1001}),
        ("priority", {"priority": True}), ("tie", {"tie": True}), ("hooks", {"hooks": ("a,b",)}),
        ("hooks", {"hooks": ("",)}), ("limits", {"limits": {"max_peers": -1}}), ("limits", {"limits": {"peers": 1}}),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_cannot_be_names_the_field(field: str, said: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=field):
        AddTerms(**({"downloads": "/dl"} | said))
