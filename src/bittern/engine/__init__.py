"""The torrent machine."""
