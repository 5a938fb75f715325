"""aiohttp's server.

Its client comes with it, and reads the system's authorities twice while it is imported: 50 ms and 4 MB, for nothing
that is used here. So OpenSSL is told for that time that there are none. And it reads the system's types of files, which
a server has that serves files.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""Where OpenSSL looks for the system's authorities (SSL_CTX_set_default_verify_paths)."""


@contextmanager
def _without_authorities() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in AUTHORITIES}
    os.environ.update(AUTHORITIES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


mimetypes.init(files=())
with _without_authorities():
    from aiohttp import HttpVersion11, web

__all__ = ["HttpVersion11", "web"]
