"""bittern: an unattended watch-folder BitTorrent daemon."""

__version__ = "0.1.0"
