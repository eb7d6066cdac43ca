"""What the configuration says of profiles, and what it must not."""

from pathlib import Path

import pytest

from bittern.daemon.config import load_config
from bittern.errors import ConfigError

HEAD = """
[paths]
state = "state"
downloads = "dl"
[[watch]]
folder = "drop"
{watch}
[[hook]]
on = ["completed"]
command = ["/x"]
name = "unpack"
"""

PATTERNS = [f"{'x' * 97}{number:03}" for number in range(50)]


@pytest.mark.parametrize(
    ("watch", "profile", "fault"),
    [
        ("", '[[profile]]\nname = "a"\nhooks = ["unpak"]', 'did you mean "unpack"?'),
        ("", '[[profile]]\nname = "a"\n[[profile]]\nname = "a"', "profile[0] has this name already"),
        ("", '[[profile]]\nname = "a"\nwatch = ["drop"]', "never the path of a folder"),
        ("", '[[profile]]\nname = "a"\nat_least = 9\nat_most = 8', "smaller than at_least"),
        ("", '[[profile]]\nname = "a"\nlabel = "a\\tb"', "no comma or control character"),
        ("", '[[profile]]\nname = "a"\ndownloads = "state"', "the same as paths.state"),
        ("", "[[profile]]\npriority = 1", "profile[0].name: missing"),
        ("", '[[profile]]\nname = "a"\nseed_idle = "soon"', "profile[0].seed_idle"),
        ("subfolders = true\ndownloads = 'drop/x'", "", "would be looked into for drops"),
        ("subfolders = true\n[[watch]]\nfolder = 'drop/x'", "", "would be looked into for drops"),
        ("subfolders = true", '[[profile]]\nname = "a"\ndownloads = "drop/y"', "would be looked into"),
        ("", '[[profile]]\nname = "a"\nfile_mode = "0666"', "profile[0].file_mode: everybody could write"),
        ("", '[[profile]]\nname = "a"\nfile_mode = "0755"', "are not made programs"),
        ("", '[[profile]]\nname = "a"\nfile_mode = "0440"', "has to read and write"),
        ("", '[[profile]]\nname = "a"\nfile_mode = 640', "not octal digits in quotes"),
        ("", '[[profile]]\nname = "a"\nfolder_mode = "2770"', "set-group-ID"),
        ("", '[[profile]]\nname = "a"\numask = "0770"', "bittern lacks"),
        ("", '[[profile]]\nname = "a"\numask = "0020"', "everybody could write"),
        ("", '[[profile]]\nname = "a"\ngroup = "no-such-group"', "there is no group of this name"),
        ("", '[[profile]]\nname = "a"\ngroup = -1', "no group has this number"),
        ("", '[storage]\numask = "0000"', "storage.umask: everybody could write"),
        ("", f'[[profile]]\nname = "a"\ntake = {PATTERNS}\nskip = {PATTERNS}', "in one selection, more than"),
        ("sidecar_grace = 61", "", "seconds from 0 to 60"),
    ],
)
def test_faults(tmp_path: Path, watch: str, profile: str, fault: str) -> None:
    file = tmp_path / "bittern.toml"
    file.write_text(HEAD.format(watch=watch) + profile)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ={})
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]


def test_what_a_profile_names_is_a_place_for_data(tmp_path: Path) -> None:
    file = tmp_path / "bittern.toml"
    file.write_text(
        HEAD.format(watch="") + '[[profile]]\nname = "a"\ndownloads = "films"\nhooks = ["unpack"]'
    )
    config = load_config(file, environ={})
    assert config.data_folders() == (str(tmp_path / "dl"), str(tmp_path / "films"))
    assert str(tmp_path / "films") in config.own_folders()
    assert config.hook_names() == {"unpack"}
