"""Which files of a directory changed, by Linux' inotify(7).

Only what a reader of whole files must know: a file was written and closed, was renamed in, or went. A file that is
made is not yet written; links are complete as soon as they are made, so those count.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

import trio

IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000

_MASK = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
_HEADER = struct.Struct("iIII")
_BUFFER = 65536


class Event(NamedTuple):
    """What was seen since the last call.

    `names` are to be looked at again, `made` too if they are links; or `all`. `lost`: the directory itself went.
    """

    names: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    all: bool = False
    lost: bool = False


class Watch:
    """One directory, watched. Raises OSError where it can't be: gone, no rights, or no watches left."""

    def __init__(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(code := ctypes.get_errno(), os.strerror(code))
        if libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK | IN_ONLYDIR) < 0:
            code = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(code, os.strerror(code), directory)

    async def next(self) -> Event:
        """Wait until something changes, and return all that has."""
        await trio.lowlevel.wait_readable(self._fd)
        try:
            return parse(os.read(self._fd, _BUFFER))
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return Event()

    def close(self) -> None:
        """End the watch."""
        os.close(self._fd)


def parse(data: bytes) -> Event:
    """Events as read(2) gives them: whole ones, each a header and a name padded with zeros."""
    names: set[str] = set()
    made: set[str] = set()
    everything = lost = False
    at = 0
    while at < len(data):
        _, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length
        if mask & IN_Q_OVERFLOW:
            everything = True
        elif mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED):
            lost = True
        elif name.startswith(".."):  # a volume of Kubernetes: the link ..data, behind all files, was moved
            everything = True
        elif name:
            (made if mask & IN_CREATE else names).add(name)
    return Event(frozenset(names), frozenset(made), everything, lost)
