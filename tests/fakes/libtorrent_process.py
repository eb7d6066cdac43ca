"""A libtorrent session as a process of its own: a JSON line a request on standard input, one back for each.

Run by its path, so it knows nothing of bittern.
"""

import json
import os
import sys

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
    "alert_mask": 0,
    # Test swarms are few and impatient.
    "min_reconnect_time": 1,
    "connection_speed": 500,
    "stop_tracker_timeout": 1,
    "active_limit": 100_000,
    "active_seeds": 100_000,
    "active_downloads": 100_000,
    "active_tracker_limit": 100_000,
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


class Peer:
    def __init__(self, host, port):
        place = {"listen_interfaces": f"{host}:{port}", "outgoing_interfaces": host}
        self.session = libtorrent.session({**QUIET, **FAST, **place})
        self.handles = []

    def add(self, torrent, folder, seed_mode, upload_limit):
        terms = libtorrent.add_torrent_params()
        terms.ti = libtorrent.torrent_info(torrent)
        terms.save_path = folder
        terms.upload_limit = upload_limit or -1
        terms.flags &= ~(libtorrent.torrent_flags.paused | libtorrent.torrent_flags.auto_managed)
        if seed_mode:
            terms.flags |= libtorrent.torrent_flags.seed_mode
        self.handles.append(self.session.add_torrent(terms))

    def connect(self, host, port):
        for handle in self.handles:
            handle.connect_peer((host, port))

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
            "peers": sum(one.num_peers for one in told),
            "errors": [one.errc.message() for one in told if one.errc.value()],
        }

    def peers(self):
        return [
            {"client": peer.client.decode(errors="replace"), "id": peer.pid.to_bytes().hex()}
            for handle in self.handles
            for peer in handle.get_peer_info()
        ]


def main():
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        name, words = json.loads(line)
        print(json.dumps(getattr(peer, name)(**words)), flush=True)


main()
