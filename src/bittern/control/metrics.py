"""`/metrics` for Prometheus: a handful of series, none for each torrent, peer or tracker. prometheus-client's door."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import trio
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from bittern.control.ports import Daemon
from bittern.control.stream import Stream
from bittern.engine.session import Session
from bittern.engine.torrent import State

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """What a scrape is answered with."""

    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Bittern(session, daemon, stream))
        # of the process: processor time, memory, descriptors, start
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


class _Bittern(Collector):
    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._session = session
        self._daemon = daemon
        self._stream = stream

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: it may be made before there is a loop to ask for the time."""
        return ()

    def collect(self) -> Iterator[Metric]:
        session, now = self._session, trio.current_time()
        version = GaugeMetricFamily("bittern_build", "Always 1; says which version runs.", labels=["version"])
        version.add_metric([self._daemon.version], 1)
        yield version
        states = Counter(torrent.state for torrent in session.torrents.values())
        torrents = GaugeMetricFamily("bittern_torrents", "Torrents in each state.", labels=["state"])
        for state in State:
            torrents.add_metric([state.value], states[state])
        yield torrents
        yield _gauge(
            "torrents_live", "Torrents with connections or about to have some.", len(session.swarms.live)
        )
        yield _gauge("peers", "Connections to peers.", session.swarms.peer_count)
        yield _counter("downloaded_bytes", "Payload received since the start.", session.swarms.down.total)
        yield _counter("uploaded_bytes", "Payload sent since the start.", session.swarms.up.total)
        yield _gauge("download_bytes_per_second", "Over the last seconds.", session.swarms.down.rate(now))
        yield _gauge("upload_bytes_per_second", "Over the last seconds.", session.swarms.up.rate(now))
        left = sum(torrent.left_bytes for torrent in session.torrents.values())
        yield _gauge("left_bytes", "What is missing of all torrents together.", left)
        usage = session.usage()
        yield _gauge("piece_memory_bytes", "Memory that pieces under way hold.", usage.piece_memory_bytes)
        yield _gauge("disk_queue_bytes", "What waits to be written or hashed.", usage.disk_queue_bytes)
        yield _gauge("open_data_files", "Files of torrents that are open.", usage.open_files)
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield _gauge("tasks", "Tasks of the loop; with as many torrents and peers there are as many.", tasks)
        age = now - session.heartbeat.last_beat_at
        yield _gauge("heartbeat_age_seconds", "Since the engine's last beat; it beats once a second.", age)
        bugs = session.swarms.supervisor.crashes
        yield _counter(
            "bugs", "Bugs that were met, and contained, since the start; the log has the first of each.", bugs
        )
        events = CounterMetricFamily(
            "bittern_events", "What was told, by the name it has in the log.", labels=["event"]
        )
        for name, count in sorted(self._stream.counts.items()):
            events.add_metric([name], count)
        yield events


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"bittern_{name}", says, value=value)


def _counter(name: str, says: str, value: float) -> Metric:
    return CounterMetricFamily(f"bittern_{name}", says, value=value)
