"""Path lists come back as they were, or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from bittern.disk.pathlist import pack_paths, unpack_paths

paths = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\udc80\udcff/"),
    min_size=1,
)


@given(st.lists(paths, min_size=1).map(tuple))
def test_they_come_back(many: tuple[str | None, ...]) -> None:
    assert unpack_paths(pack_paths(many)) == many


@given(st.lists(paths, min_size=1).map(tuple), st.data())
def test_a_damaged_list_is_none(many: tuple[str | None, ...], data: st.DataObject) -> None:
    blob = bytearray(pack_paths(many))
    cut = data.draw(st.integers(0, len(blob) - 1))
    assert unpack_paths(bytes(blob[:cut])) is None
    blob[cut] ^= 1 << data.draw(st.integers(0, 7))
    assert unpack_paths(bytes(blob)) is None


@given(st.binary(max_size=60))
def test_anything_else_is_none(blob: bytes) -> None:
    assert unpack_paths(blob) is None


def test_a_bomb_does_not_go_off() -> None:
    assert unpack_paths(pack_paths(("x" * (64 * 1024 * 1024 + 1),))) is None
