"""bittern from asyncio: the session lives on a trio loop in a thread of its own, behind anyio's blocking portal.

python from_asyncio.py debian.torrent downloads
"""

import asyncio
import sys
from typing import Any

from anyio.from_thread import start_blocking_portal

import bittern


async def download(path_or_magnet: str, folder: str, **options: Any) -> dict[str, Any]:
    """Downloads one torrent, showing how it goes; gives its last figures."""
    with start_blocking_portal("trio") as portal:
        opened = portal.wrap_async_context_manager(bittern.open_session(folder, **options))
        session = await asyncio.to_thread(opened.__enter__)
        try:
            torrent = await asyncio.wrap_future(portal.start_task_soon(session.download, path_or_magnet))
            complete = asyncio.wrap_future(portal.start_task_soon(torrent.wait_complete))
            while not complete.done():
                await asyncio.wait([complete], timeout=1)
                print(portal.call(torrent.stats))
            await complete
            return portal.call(torrent.stats)
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


if __name__ == "__main__":
    asyncio.run(download(sys.argv[1], sys.argv[2]))
