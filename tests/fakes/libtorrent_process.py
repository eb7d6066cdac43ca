"""libtorrent sessions as a process of their own: a JSON line a request on standard input, one back for each.

Run by its path, so it knows nothing of bittern. Arguments: the host, `tuned` or `default`, and a port for each
session (0: any); standard output begins with a line that lists the ports.
"""

import json
import os
import sys
import time

import libtorrent

QUIET = {
    # Loopback only, TCP only, and nothing that looks for peers by itself.
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 1,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": libtorrent.alert.category_t.status_notification,
    # Test swarms are few and impatient.
    "min_reconnect_time": 1,
    "connection_speed": 500,
    "stop_tracker_timeout": 1,
    "active_limit": 100_000,
    "active_seeds": 100_000,
    "active_downloads": 100_000,
    "active_tracker_limit": 100_000,
    # Alerts of thousands of torrents at once are all to be seen.
    "alert_queue_size": 100_000,
    "close_redundant_connections": True,
}
FAST = {
    # As fast as it goes over loopback, so that it is never what is measured.
    "max_queued_disk_bytes": 64 << 20,
    "send_buffer_watermark": 8 << 20,
    "send_buffer_low_watermark": 1 << 20,
    "send_buffer_watermark_factor": 150,
    "max_out_request_queue": 4000,
    "max_allowed_in_request_queue": 4000,
    "request_queue_time": 10,
    "unchoke_slots_limit": -1,
    "rate_limit_ip_overhead": False,
    "recv_socket_buffer_size": 4 << 20,
    "send_socket_buffer_size": 4 << 20,
    "suggest_mode": 0,
    "aio_threads": 4,
    "hashing_threads": 2,
}
CROWD = {
    # Fifty sessions with six threads and megabytes of buffers each would measure the scheduler.
    "aio_threads": 1,
    "hashing_threads": 1,
    "recv_socket_buffer_size": 0,
    "send_socket_buffer_size": 0,
}


class Peers:
    def __init__(self, host, mode, ports):
        terms = {**QUIET, **(FAST if mode == "tuned" else {}), **(CROWD if len(ports) > 4 else {})}
        self.host = host
        at = f"[{host}]" if ":" in host else host
        self.sessions = [
            libtorrent.session({**terms, "listen_interfaces": f"{at}:{port}", "outgoing_interfaces": host})
            for port in ports
        ]
        self.ports = [session.listen_port() for session in self.sessions]
        self.handles = []

    def add(self, torrent, folder, seed_mode=False, upload_limit=0, download_limit=0, pex=False):
        """To each session; more than one keep their data apart, below numbered folders, unless they seed."""
        for number, session in enumerate(self.sessions):
            terms = libtorrent.add_torrent_params()
            terms.ti = libtorrent.torrent_info(torrent)
            apart = len(self.sessions) > 1 and not seed_mode
            terms.save_path = os.path.join(folder, str(number)) if apart else folder
            terms.upload_limit = upload_limit or -1
            terms.download_limit = download_limit or -1
            terms.flags &= ~(libtorrent.torrent_flags.paused | libtorrent.torrent_flags.auto_managed)
            if not pex:
                # Else those who are to know one seed only hear of each other from it, and share the work.
                terms.flags |= libtorrent.torrent_flags.disable_pex
            if seed_mode:
                terms.flags |= libtorrent.torrent_flags.seed_mode
            self.handles.append(session.add_torrent(terms))
        return time.monotonic()

    def add_magnet(self, uri, folder):
        for session in self.sessions:
            terms = libtorrent.parse_magnet_uri(uri)
            terms.save_path = folder
            terms.flags &= ~(libtorrent.torrent_flags.paused | libtorrent.torrent_flags.auto_managed)
            self.handles.append(session.add_torrent(terms))

    def add_all(self, folder, torrents, seed_mode=False):
        """Every .torrent in there, to the first session; one that has been saved beside it is not checked again."""
        for name in sorted(os.listdir(torrents)):
            path = os.path.join(torrents, name)
            if name.endswith(".resume"):
                with open(path, "rb") as file:
                    terms = libtorrent.read_resume_data(file.read())
            elif name.endswith(".torrent") and not os.path.exists(path + ".resume"):
                terms = libtorrent.add_torrent_params()
                terms.ti = libtorrent.torrent_info(path)
            else:
                continue
            terms.save_path = folder
            terms.flags &= ~(libtorrent.torrent_flags.paused | libtorrent.torrent_flags.auto_managed)
            if seed_mode:
                terms.flags |= libtorrent.torrent_flags.seed_mode
            self.sessions[0].async_add_torrent(terms)

    def count(self):
        """Torrents that the first session has."""
        return len(self.sessions[0].get_torrents())

    def save_all(self, torrents, timeout_s):
        """What `add_all` finds later, once all torrents have said what they know: how many did."""
        [session, *_] = self.sessions
        session.apply_settings({"alert_mask": libtorrent.alert.category_t.storage_notification})
        handles = session.get_torrents()
        names = {handle.info_hashes().v1: handle.name() for handle in handles}
        for handle in handles:
            handle.save_resume_data(libtorrent.save_resume_flags_t.save_info_dict)
        saved, deadline = 0, time.monotonic() + timeout_s
        while saved < len(names) and time.monotonic() < deadline:
            for alert in session.pop_alerts():
                if isinstance(alert, libtorrent.save_resume_data_alert):
                    name = names[alert.params.info_hashes.v1]
                    with open(os.path.join(torrents, f"{name}.torrent.resume"), "wb") as file:
                        file.write(libtorrent.write_resume_data_buf(alert.params))
                    saved += 1
            time.sleep(0.002)
        return saved

    def dht(self, nodes):
        """A DHT node for each session, on the port of its peers; `nodes` introduce them."""
        for session in self.sessions:
            session.apply_settings(
                {
                    # On loopback all nodes are of one host and network.
                    "dht_restrict_routing_ips": False,
                    "dht_restrict_search_ips": False,
                    "dht_max_peers_reply": 100,
                    "dht_announce_interval": 10,
                    "dht_bootstrap_nodes": ",".join(nodes),
                    "enable_dht": True,
                }
            )

    def lsd(self):
        """They tell their neighbours what they have, and hear them."""
        for session in self.sessions:
            session.apply_settings({"enable_lsd": True})

    def dht_nodes(self):
        """How many each session's table holds."""
        return [session.status().dht_nodes for session in self.sessions]

    def connect(self, host, ports):
        for port in ports:
            for handle in self.handles:
                handle.connect_peer((host, port))

    def connect_all(self):
        """Every session with every other."""
        for number, handle in enumerate(self.handles):
            for port in self.ports[number + 1 :]:
                handle.connect_peer((self.host, port))

    def wait(self, state, timeout_s):
        """Until every torrent is `checked` or `finished`: the time of the last (monotonic), 0 if that never comes.

        By alerts: to be asked for its state costs a session time that would be measured as its own.
        """
        kind = {
            "checked": libtorrent.torrent_checked_alert,
            "finished": libtorrent.torrent_finished_alert,
        }[state]
        deadline, step_s = time.monotonic() + timeout_s, 0.002 if len(self.sessions) < 5 else 0.02
        waiting = set(self.handles)
        # An alert may have gone by before.
        waiting -= {handle for handle in waiting if self._is(handle, state)}
        while waiting and time.monotonic() < deadline:
            for session in self.sessions:
                for alert in session.pop_alerts():
                    if isinstance(alert, kind):
                        waiting.discard(alert.handle)
            if waiting:
                time.sleep(step_s)
        return 0 if waiting else time.monotonic()

    def _is(self, handle, state):
        told, states = handle.status(0), libtorrent.torrent_status
        if state == "finished":
            return told.is_seeding
        return told.state not in (states.checking_files, states.checking_resume_data)

    def recheck(self, timeout_s):
        """Of the data of all torrents: when it began and when the last was done (monotonic; 0: not in time)."""
        for session in self.sessions:
            session.pop_alerts()
        began, waiting = time.monotonic(), set(self.handles)
        for handle in self.handles:
            handle.force_recheck()
        while waiting and time.monotonic() < began + timeout_s:
            for session in self.sessions:
                for alert in session.pop_alerts():
                    if isinstance(alert, libtorrent.torrent_checked_alert):
                        waiting.discard(alert.handle)
            time.sleep(0.002)
        return [began, 0 if waiting else time.monotonic()]

    def create(self, source, piece_length, target):
        """A torrent as libtorrent makes it by default: v1 and v2 in one, files padded to whole pieces."""
        files = libtorrent.list_files(source)
        made = libtorrent.create_torrent(files, piece_length)
        libtorrent.set_piece_hashes(made, os.path.dirname(source))
        with open(target, "wb") as file:
            file.write(libtorrent.bencode(made.generate()))

    def status(self):
        told = [handle.status(0) for handle in self.handles]
        states = libtorrent.torrent_status
        checking = (states.checking_files, states.checking_resume_data)
        return {
            "checked": all(one.state not in checking for one in told),
            "whole": bool(told) and all(one.is_seeding for one in told),
            "uploaded": sum(one.total_payload_upload for one in told),
            "downloaded": sum(one.total_payload_download for one in told),
            # Everything that BitTorrent put into TCP, payload and all, since the torrents were added.
            "sent": sum(one.total_upload for one in told),
            "received": sum(one.total_download for one in told),
            "peers": sum(one.num_peers for one in told),
            "errors": [one.errc.message() for one in told if one.errc.value()],
        }

    def shares(self):
        """What each torrent sent and got, in bytes of payload."""
        told = [handle.status(0) for handle in self.handles]
        return [[one.total_payload_upload, one.total_payload_download] for one in told]

    def peers(self):
        return [
            {"client": peer.client.decode(errors="replace"), "id": peer.pid.to_bytes().hex()}
            for handle in self.handles
            for peer in handle.get_peer_info()
        ]


def main():
    peers = Peers(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]])
    print(json.dumps(peers.ports), flush=True)
    for line in sys.stdin:
        name, words = json.loads(line)
        print(json.dumps(getattr(peers, name)(**words)), flush=True)


main()
