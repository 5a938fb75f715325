"""Headers, heads and bodies that no client sends: 2xx or 4xx or the connection's end, and the server is well."""

from __future__ import annotations

import contextlib
import gzip
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sync.api import protobuf
from tests.sync.api.apis import Api, running_embedded

PATH = "/api/v1/namespaces/default/configmaps"
BODY = b'{"metadata":{"generateName":"h-"},"data":{"k":"v"}}'
NAMES = (
    *("Accept", "Accept-Encoding", "Accept-Charset", "Content-Type", "Content-Encoding", "Content-MD5", "Expect"),
    *("User-Agent", "Authorization", "Impersonate-User", "Impersonate-Group", "Cookie", "Range", "If-Match", "Te"),
    *("If-None-Match", "Origin", "Upgrade", "Connection", "Host", "X-Forwarded-For", "X-Remote-User", "Trailer"),
)
VALUES = (
    *("", "*/*", "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=Table;v=v9"),
    *("application/vnd.kubernetes.protobuf", "application/yaml;q=0.1", "text/html;q=x", ";;;", ",", "a/b/c", "q=1"),
    *("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "gzip", "br", "gzip;q=0", "identity", "deflate"),
    *("Bearer x", "Basic Og==", "Bearer ", "bytes=0-1", "100-continue", "websocket", "keep-alive, Upgrade", "%00"),
    *("tests/\u00e9", "x" * 5000, "\t", "close", "trailers", "[::1]:99999", "a b", "multipart/form-data; boundary="),
)
HEADS = (
    b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  /api HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/namespaces/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://elsewhere.example.com/api HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT elsewhere.example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /api HTTP/1.1\r\nNo colon\r\n\r\n",
    b"GET /api HTTP/1.1\r\n: empty\r\n\r\n",
    b"GET /api HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api HTTP/1.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
    b"GET /api HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n",
    b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n" % PATH.encode(),
    b"GET %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" % PATH.encode(),
    b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" % PATH.encode(),
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One of its own, whose log is read at the end."""
    folder = tmp_path_factory.mktemp("hostile")
    with running_embedded(folder) as found:
        yield found
        assert found.get("/readyz").body == b"ok"
    assert "Traceback" not in (folder / "api.log").read_text()


def answer(api: Api, sent: bytes) -> int:
    """The code of the answer to these bytes; 0 if there was none."""
    place = urlsplit(api.url)
    raw = socket.create_connection((place.hostname or "", place.port), timeout=10)
    with raw, contextlib.suppress(OSError), api.client.wrap_socket(raw, server_hostname=place.hostname) as tls:
        with contextlib.suppress(OSError):
            tls.sendall(sent)
        tls.settimeout(2)
        line = tls.recv(100)
        return int(line.split()[1]) if line else 0
    return 0


@pytest.mark.parametrize("head", HEADS, ids=[str(head[:48]) for head in HEADS])
def test_heads(api: Api, head: bytes) -> None:
    code = answer(api, head)
    assert code == 0 or 200 <= code < 500


def test_headers_by_chance(api: Api) -> None:
    chance = random.Random(9)
    seen = set()
    for _ in range(400):
        lines = [f"{chance.choice(NAMES)}: {chance.choice(VALUES)}" for _ in range(chance.randrange(1, 5))]
        body = BODY if chance.random() < 0.5 else b""
        first = f"POST {PATH}?dryRun=All" if body else f"GET {PATH}?limit=1"
        text = "\r\n".join(
            [f"{first} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *lines]
        )
        code = answer(api, text.encode("latin-1") + b"\r\n\r\n" + body)
        assert code == 0 or 100 <= code < 500, lines
        seen.add(code)
    assert seen >= {200, 201, 400, 403, 406, 415}


def test_a_body_that_unpacks_without_end(api: Api) -> None:
    """256 MiB in 260 kB: refused, as Kubernetes unpacks none either, and memory stays."""

    def memory() -> int:
        with Path(f"/proc/{api.pid}/smaps_rollup").open() as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

    before = memory()
    packed = gzip.compress(b" " * (256 << 20), 9)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with contextlib.closing(api.connect()) as connection:
        reply = api.request("POST", PATH, packed, headers, connection)
    assert (reply.code, reply.reason) == (400, "BadRequest")
    assert memory() - before < 32 * 1024


def test_protobuf_by_chance(api: Api) -> None:
    """Mutations of what a typed client sends: nothing but 2xx and 4xx, at once."""
    inner = b"\x0a\x10\x0a\x00\x12\x02h-\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x12\x06\x0a\x01k\x12\x01v"
    whole = b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes([len(inner)]) + inner + b"\x1a\x00\x22\x00"
    headers = {"Content-Type": protobuf.MEDIA}
    assert api.request("POST", f"{PATH}?dryRun=All", whole, headers).code == 201
    chance = random.Random(4)
    codes = set()
    began = time.monotonic()
    for _ in range(500):
        mutated = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            where = chance.randrange(len(mutated))
            mutated[where : where + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        reply = api.request("POST", f"{PATH}?dryRun=All", bytes(mutated), headers)
        assert 200 <= reply.code < 500, (bytes(mutated), reply)
        codes.add(reply.code)
    assert codes >= {201, 400}
    assert time.monotonic() - began < 60
