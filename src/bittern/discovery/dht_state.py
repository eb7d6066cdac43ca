"""`state/dht.toml`: who was in the routing tables, so that a restart needs nobody to introduce us; and who did."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bittern.disk.toml import dump_toml
from bittern.policy.dhtnode import DhtNode
from bittern.proto.compact import pack_address, unpack_addresses
from bittern.proto.krpc import NodeInfo
from bittern.terms import NodeId

FORMAT: Final = 1
BYTES_AT_MOST: Final = 1024 * 1024
NODES_AT_MOST: Final = 500
PLACES_AT_MOST: Final = 64
"""Of torrents' `nodes`."""

HOST_BYTES: Final = 253
_ID_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class SavedTable:
    """Of one family: our id, and the nodes that were good."""

    node_id: NodeId
    nodes: tuple[NodeInfo, ...]


def dump_tables(nodes: Mapping[int, DhtNode], places: Iterable[tuple[str, int]] = ()) -> bytes:
    """By family (4, 6). Nodes that have failed twice are left out; those seen last come first."""
    table: dict[str, Any] = {"format": FORMAT, "introducers": [list(place) for place in places]}
    for family, node in nodes.items():
        contacts = sorted(node.table.contacts(), key=lambda one: -one.seen_at)
        kept = [one for one in contacts if not one.bad][:NODES_AT_MOST]
        table[f"ipv{family}"] = {
            "node_id": node.own_id.hex(),
            "nodes": [(one.node_id + pack_address(one.address)).hex() for one in kept],
        }
    return dump_toml(table)


def load_tables(blob: bytes) -> dict[int, SavedTable]:
    """What can be read of it; `ValueError` when it is no such file at all."""
    table = _read(blob)
    found: dict[int, SavedTable] = {}
    for family, address_bytes in ((4, 6), (6, 18)):
        saved = table.get(f"ipv{family}")
        if not isinstance(saved, dict):
            continue
        node_id = _unhex(saved.get("node_id"))
        listed = saved.get("nodes")
        if len(node_id) != _ID_BYTES or not isinstance(listed, list):
            continue
        nodes = []
        for one in map(_unhex, listed[:NODES_AT_MOST]):
            if len(one) == _ID_BYTES + address_bytes:
                addresses = unpack_addresses(one[_ID_BYTES:], address_bytes - 2, 1)
                nodes += [NodeInfo(NodeId(one[:_ID_BYTES]), address) for address in addresses]
        found[family] = SavedTable(NodeId(node_id), tuple(nodes))
    return found


def load_places(blob: bytes) -> list[tuple[str, int]]:
    """Who introduced us, the latest last; errors as of `load_tables`."""
    found = []
    listed = _read(blob).get("introducers")
    for one in listed[-PLACES_AT_MOST:] if isinstance(listed, list) else []:
        match one:
            case [str(host), int(port)] if 0 < len(host) <= HOST_BYTES and 0 < port < 65536:
                found.append((host, port))
            case _:
                pass
    return found


def _read(blob: bytes) -> dict[str, Any]:
    if len(blob) > BYTES_AT_MOST:
        raise ValueError("too large")
    table = tomllib.loads(blob.decode())
    if table.get("format") != FORMAT:
        raise ValueError("of another format")
    return table


def _unhex(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""
