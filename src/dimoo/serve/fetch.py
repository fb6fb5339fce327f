"""Pictures named by URL: data URLs are decoded, hosts on the list are asked, everything else is refused.

Paths and `file:` URLs never touch the disk. A listed host is asked without following redirects, within a time and a
size; fetching whatever a stranger names would let them reach what only this machine can reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from dimoo.serve.errors import invalid, too_large
from dimoo.serve.pictures import decode_data_url, is_data_url

SECONDS = 15.0


class Fetcher:
    def __init__(self, hosts: Sequence[str], most_bytes: int) -> None:
        self.hosts, self.most_bytes = tuple(host.lower() for host in hosts), most_bytes

    async def get(self, url: str, param: str) -> bytes:
        """The bytes behind a URL."""
        if is_data_url(url):
            return decode_data_url(url, param)
        try:
            parts = urlsplit(url)
            place = parts.netloc.rpartition("@")[2].lower()
        except ValueError:
            raise invalid("this is no URL", param, "invalid_image_url") from None
        if parts.scheme not in ("http", "https") or not place:
            raise invalid("pictures come as data URLs (data:image/png;base64,...)", param, "invalid_image_url")
        if place not in self.hosts:
            raise invalid(
                "this server fetches no pictures from there; send a data URL", param, "remote_url_not_allowed"
            )
        return await self._ask(url, param)

    async def _ask(self, url: str, param: str) -> bytes:
        import httpx

        data = bytearray()
        try:
            async with (
                asyncio.timeout(SECONDS),
                httpx.AsyncClient(follow_redirects=False, timeout=SECONDS, trust_env=False) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise invalid(f"the picture's host answered {response.status_code}", param, "image_url_failed")
                async for part in response.aiter_bytes():
                    data += part
                    if len(data) > self.most_bytes:
                        raise too_large(f"the picture is larger than {self.most_bytes:,} bytes", param)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError) as error:
            raise invalid("the picture's host did not answer", param, "image_url_failed") from error
        return bytes(data)
