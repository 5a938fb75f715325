"""What is said where an API does not take the client's credentials: both APIs, and servers that alert or just close."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
import trustme

from bench import apiserver
from sync.client import credentials
from sync.client.connection import Api, ApiStatus, ApiUnreachable
from sync.client.kubeconfig import Access
from tests.sync.api.apis import running_embedded
from tests.sync.client.serving import response, saying, serving, status

PATH = "/api/v1/namespaces"
OLD = datetime(2024, 2, 3, 4, 5, tzinfo=UTC)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def client(authority: trustme.CA, end: datetime | None = None) -> trustme.LeafCert:
    return authority.issue_cert(
        "a.example", common_name="a", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=end
    )


def access(server: str, ca: trustme.CA, certificate: trustme.LeafCert | None) -> Access:
    pem = ca.cert_pem.bytes().decode()
    if certificate is None:
        return Access(server=server, ca=pem)
    text = certificate.cert_chain_pems[0].bytes().decode()
    return Access(server=server, ca=pem, certificate_pem=text, key_pem=certificate.private_key_pem.bytes().decode())


@contextmanager
def apis(name: str, folder: Path) -> Iterator[tuple[str, str, trustme.CA]]:
    """The URL of one of the two APIs, whom its certificate is of (PEM), and the CA whose clients it believes."""
    if name == "embedded":
        with running_embedded(folder) as embedded:
            assert embedded.authority
            yield embedded.url, embedded.ca.read_text(), embedded.authority
    else:
        if problem := apiserver.missing():
            pytest.skip(problem)
        with apiserver.running(folder) as found:
            clients = trustme.CA.from_pem(found.client_ca.read_bytes(), found.client_ca_key.read_bytes())
            yield found.url, found.ca.read_text(), clients


@pytest.mark.parametrize("name", ["embedded", "kube-apiserver"])
def test_a_certificate_that_ended_on_both_apis(name: str, tmp_path: Path) -> None:
    async def main(server: str, serving: str, ca: trustme.CA) -> None:
        ended = msgspec.structs.replace(access(server, ca, client(ca, OLD)), ca=serving)
        where = server.removeprefix("https://")
        begin = {"embedded": f"{where}: the connection was closed without an answer", "kube-apiserver": "Unauthorized"}
        for ask in ("get", "create") * 3:  # closed or reset, as its timing is, the reason is one
            async with Api(ended) as api:
                with pytest.raises((ApiUnreachable, ApiStatus)) as caught:
                    await (api.get(PATH) if ask == "get" else api.create(PATH, {"x": "y" * 100_000}))
                told = "the client certificate (inline), which ended on 2024-02-03 04:05 UTC, is not accepted"
                assert str(caught.value) == f"{begin[name]}: {told}"
                assert api.refused == told

    with apis(name, tmp_path) as found:
        trio.run(main, *found)


@contextmanager
def alerting(authority: trustme.CA, version: ssl.TLSVersion) -> Iterator[str]:
    """The URL of a server that demands a client certificate and alerts at once, the rest of the handshake unread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with accepted, suppress(OSError):
                context.wrap_socket(accepted, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_an_alert_is_shown_also_when_the_connection_is_reset_behind_it(version: ssl.TLSVersion) -> None:
    ours, other = trustme.CA(), trustme.CA()

    async def refused(server: str, certificate: trustme.LeafCert | None) -> tuple[str, str]:
        async with Api(access(server, ours, certificate)) as api:
            with pytest.raises(ApiUnreachable) as caught:
                await api.get(PATH)
            return str(caught.value).replace(server.removeprefix("https://"), "API"), api.refused

    with alerting(ours, version) as server:
        for _ in range(5):
            told, why = trio.run(refused, server, client(ours, OLD))
            assert told == (
                "API: the client certificate (inline), which ended on 2024-02-03 04:05 UTC, is not accepted: "
                "certificate expired"
            )
            assert told.startswith(f"API: {why}")
        told, why = trio.run(refused, server, client(other, datetime(2999, 1, 2, tzinfo=UTC)))
        assert told == (
            "API: the client certificate (inline), good until 2999-01-02 00:00 UTC, is not accepted: unknown authority"
        )
        assert why
        told, why = trio.run(refused, server, None)
        assert told.startswith("API: TLS: ")
        assert not why


@trio.testing.trio_test
async def test_a_server_that_closes_in_place_of_an_answer() -> None:
    """As one does that judges the certificate after the handshake and sends no alert; or one that fails."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(saying(b""), context) as server:

        async def close(stream: trio.abc.Stream, asked: object) -> object:
            return True

        server.answer = close
        url = server.access.server
        async with Api(access(url, ca, client(ca, OLD))) as api:
            with pytest.raises(
                ApiUnreachable, match=r"without an answer: the client certificate .* ended on 2024-02-03"
            ):
                await api.get(PATH)
            assert api.refused
            server.answer = saying(response({}))
            await api.get(PATH)
            assert not api.refused
        server.answer = close
        async with Api(access(url, ca, client(ca, datetime(2999, 1, 1, tzinfo=UTC)))) as api:
            with pytest.raises(
                ApiUnreachable, match=r"answer: perhaps the client certificate .* good until 2999-01-01"
            ):
                await api.get(PATH)
            assert not api.refused
        async with Api(access(url, ca, None)) as api:
            with pytest.raises(ApiUnreachable, match=r"closed without an answer$"):
                await api.get(PATH)


@trio.testing.trio_test
async def test_an_answer_of_401_names_the_credentials(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    async with serving(saying(status(401, "Unauthorized", "Unauthorized"))) as server:
        url = server.access.server
        for given, told in (
            (Access(server=url), "Unauthorized"),
            (Access(server=url, token="secret"), "Unauthorized: the token (inline) is not accepted"),
            (
                Access(server=url, token_file=str(tmp_path / "token")),
                f"Unauthorized: the token in {tmp_path}/token is not accepted",
            ),
            (
                Access(server=url, certificate=str(tmp_path / "none")),
                f"Unauthorized: the client certificate {tmp_path}/none is not accepted",
            ),
        ):
            async with Api(given) as api:
                with pytest.raises(ApiStatus) as caught:
                    await api.get(PATH)
                assert str(caught.value) == told
                assert bool(api.refused) == (told != "Unauthorized")


def test_ends_now() -> None:
    assert credentials.ended(time.time() - 1)
    assert not credentials.ended(time.time() + 10)
    assert not credentials.ended(None)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    ca = trustme.CA()
    assert credentials.ends(access("https://x", ca, client(ca, soon))) == soon.timestamp()
    assert credentials.ends(Access(server="https://x", certificate_pem="rubbish")) is None
