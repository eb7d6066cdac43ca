"""A host and a port as people write them."""

from bittern.proto.metainfo import MAX_HOST_BYTES


def parse_endpoint(text: str) -> tuple[str, int] | None:
    """A name or a numeric address with a port behind it; one of IPv6 stands in brackets."""
    host, colon, digits = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not 0 < len(host) <= MAX_HOST_BYTES or not (digits.isascii() and digits.isdigit()):
        return None
    port = int(digits[:6])
    return (host, port) if 0 < port < 65536 and host.isprintable() and " " not in host else None
