"""What is read at one look is what h11 reads."""

import random

import h11
import pytest

from bittern.net.whole_answer import WholeAnswer, whole_answer

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CUTS = (
    PLAIN,
    b"HTTP/1.0 200 Fine\r\ncontent-length:5\r\nConnection: Close\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\nConnection: keep-alive\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
BITS = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"0",
    b"5",
    b"\xff",
    b"x",
    b"\x0b",
    b"/",
    b"close",
)


def by_h11(came: bytes) -> WholeAnswer | None:
    """None: no answer of status 200, as far as this goes."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "t.example")]))
    http.send(h11.EndOfMessage())
    http.receive_data(came)
    body, encoding = b"", ""
    try:
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response) and event.status_code == 200:
                encoding = dict(event.headers).get(b"content-encoding", b"identity").decode("latin-1")
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                keeps = http.our_state is h11.DONE and http.their_state is h11.DONE
                return None if http.trailing_data[0] else WholeAnswer(body, encoding, keeps)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.ProtocolError:
        return None


def test_whatever_is_read_h11_reads_in_the_same_way() -> None:
    rng = random.Random(17)
    read = 0
    for _ in range(20_000):
        came = bytearray(rng.choice(CUTS))
        for _ in range(rng.randrange(4)):
            at, cut = rng.randrange(len(came) + 1), rng.randrange(3)
            came[at : at + cut] = rng.choice((b"", *BITS))
        found = whole_answer(bytes(came))
        if found is not None:
            read += 1
            assert found == by_h11(bytes(came)), bytes(came)
    assert read > 3000


@pytest.mark.parametrize(
    ("came", "answer"),
    [
        (PLAIN, WholeAnswer(b"hello", "identity", keeps=True)),
        (CUTS[1], WholeAnswer(b"hello", "identity", keeps=False)),
        (CUTS[2], WholeAnswer(b"hello", "gzip", keeps=True)),
        (b"HTTP/1.1 200\r\nA:\r\nContent-Length: 0\r\n\r\n", WholeAnswer(b"", "identity", keeps=True)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1", WholeAnswer(b"1", "identity", keeps=False)),
    ],
)
def test_what_trackers_send_is_read(came: bytes, answer: WholeAnswer) -> None:
    assert whole_answer(came) == answer == by_h11(came)


@pytest.mark.parametrize(
    "came",
    [
        b"",
        PLAIN[:-1],
        PLAIN + b"!",
        PLAIN[:30],
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"200 OK", b"404 No"),
        PLAIN.replace(b"200 OK", b"100 OK"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.2"),
        PLAIN.replace(b"text", b"text\r\n folded"),
        PLAIN.replace(b"Length: 5", b"Length: +5"),
        PLAIN.replace(b"Length: 5", b"Length: 5, 5"),
        PLAIN.replace(b"Length: 5", b"Length: 0000000005"),
        PLAIN.replace(b"Content-Type: text/plain", b"Content-Length: 7"),
        PLAIN.replace(b"Content-Type: text/plain", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Content-Type: text/plain", b"Connection: close, keep-alive"),
        PLAIN.replace(b"Content-Type: ", b"Content-Type : "),
        PLAIN.replace(b"Content-Length", b"Content-Weight"),
        PLAIN.replace(b"text/plain", b"\0"),
    ],
)
def test_whatever_is_unusual_is_left_to_h11(came: bytes) -> None:
    assert whole_answer(came) is None


def test_what_is_long_takes_no_longer_than_its_length() -> None:
    """Were it gone through again from each place, these would take minutes."""
    head = b"HTTP/1.1 200 OK\r\n"
    for field in (
        b"a" * 65_000,
        b"a:" + b" \t" * 32_000 + b"\0",
        b"a: b\r\n" * 10_000,
        b"a:\r\n" * 16_000 + b"\0",
    ):
        assert whole_answer(head + field) is None
