"""A cloud that starts again knows the revoked before it serves."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from edgemesh import files
from edgemesh.authority import Credentials, utc
from edgemesh.cloud import state
from edgemesh.cloud.options import Options
from edgemesh.cloud.role import Cloud
from tunnel.endpoint import Address


def code(port: int, ca: Path, made: Credentials, folder: Path) -> int:
    """What the API answers to a client."""
    pair = folder / "pair.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(made.key + made.certificate)
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(pair)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", "/api/v1/nodes")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("listed", [True, False])
def test_a_certificate_that_was_revoked_before(tmp_path: Path, listed: bool) -> None:
    now = utc(time.time())
    options = Options(state_dir=tmp_path / "cloud", listen=Address("127.0.0.1", 0), advertise=("127.0.0.1",))
    found = state.load(options, now)
    made = found.authority.client("edgemesh:node:a1", ("edgemesh:nodes",), now)
    serial = x509.load_pem_x509_certificate(made.certificate).serial_number
    if listed:
        files.replace(found.revoked, found.authority.revoke({serial}, [], now))
    found.keep_server(("127.0.0.1",), now)

    async def main() -> int:
        cloud = Cloud(options, found)
        await cloud._serve_api()  # as far as serving, without the controllers that read the list later
        assert cloud._server is not None
        try:
            return await asyncio.to_thread(code, cloud._server.port, found.ca, made, tmp_path)
        finally:
            await cloud._server.stop()

    assert asyncio.run(main()) == (401 if listed else 200)
