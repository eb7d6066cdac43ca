"""Where the control socket is: one rule for the daemon that opens it and the command that looks for it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "control.sock"
RUN_FOLDER: Final = Path("/run/bittern")


def socket_to_open(configured: str, state: str, environ: Mapping[str, str] = os.environ) -> Path:
    """What is configured, else in the folder that systemd made for us, else in /run/bittern if that is ours, else with
    our records.
    """
    if configured:
        return Path(configured)
    made = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if made:
        return Path(made) / SOCKET_NAME
    if _ours(RUN_FOLDER):
        return RUN_FOLDER / SOCKET_NAME
    return Path(state) / SOCKET_NAME


def sockets_to_try(configured: str, state: str) -> list[Path]:
    """Where that daemon may be listening, if it does: who answers says whose records it keeps."""
    if configured:
        return [Path(configured)]
    found = [Path(state) / SOCKET_NAME, RUN_FOLDER / SOCKET_NAME]
    return found + sorted(Path("/run").glob(f"bittern-*/{SOCKET_NAME}"))


def _ours(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False
