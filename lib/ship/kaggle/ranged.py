"""Read parts of a file at an address without downloading the rest."""

import io
import zipfile

import requests

READ_AHEAD = 1 << 16


class Ranged(io.RawIOBase):
    """A file at an address, of which only the bytes that are read are fetched.

    Args:
        url: the address; no credentials are sent.
        size: of the file in bytes.
    """

    def __init__(self, url: str, size: int):
        super().__init__()
        self.url, self.size, self.place = url, size, 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = max(0, start + offset)
        return self.place

    def readinto(self, buffer) -> int:
        """Fetch the next bytes.

        Raises:
            ConnectionError: the server sends all of the file instead of a part.
        """
        end = min(self.place + len(buffer), self.size)
        if end <= self.place:
            return 0
        headers = {"Range": f"bytes={self.place}-{end - 1}", "Accept-Encoding": "identity"}
        with requests.get(self.url, headers=headers, stream=True) as response:
            response.raise_for_status()
            if response.status_code != 206:
                raise ConnectionError("the server sends no parts of files")
            content = response.content
        buffer[: len(content)] = content
        self.place += len(content)
        return len(content)


def zip_at(url: str, size: int) -> zipfile.ZipFile:
    """Return a zip at an address, of which only what is asked for is fetched.

    Raises:
        BadZipFile: it is none.
        ConnectionError: the server sends no parts of files.
    """
    return zipfile.ZipFile(io.BufferedReader(Ranged(url, size), READ_AHEAD))
