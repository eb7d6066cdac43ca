"""The unattended part: configuration, watch folder, hooks, systemd."""
