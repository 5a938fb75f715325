"""The API's verbs over HTTP, against a server that answers as it is told to."""

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from sync.client import connection, transport
from sync.client.connection import Api, ApiStatus, ApiUnreachable, resource_path
from sync.client.kubeconfig import Access
from tests.sync.client.serving import WATCH_HEAD, Asked, Serving, chunk, response, saying, serving, status

PATH = "/api/v1/namespaces/shop/services"


@trio.testing.trio_test
async def test_verbs_and_one_connection_for_all() -> None:
    async with serving(saying(response({"a": 1}))) as server, Api(server.access) as api:
        assert await api.get(f"{PATH}/a", {"x": "ü &"}) == {"a": 1}
        await api.create(PATH, {"n": "é"})
        await api.update(f"{PATH}/a", {})
        await api.patch(f"{PATH}/a", [], connection.JSON_PATCH)
        await api.delete(f"{PATH}/a")
        await api.delete(f"{PATH}/a", options={"propagationPolicy": "Orphan"})
        asked = server.asked
        assert [each.method for each in asked] == ["GET", "POST", "PUT", "PATCH", "DELETE", "DELETE"]
        assert {each.connection for each in asked} == {1}
        assert asked[0].query == "x=%C3%BC+%26"
        assert asked[1].body == '{"n":"é"}'.encode()
        assert asked[3].headers["content-type"] == "application/json-patch+json"
        assert asked[4].body == b""
        assert b'"kind":"DeleteOptions"' in asked[5].body
        assert "authorization" not in asked[0].headers


@trio.testing.trio_test
async def test_a_list_is_all_its_pages_and_begun_anew_when_expired() -> None:
    answers = saying(
        response({"metadata": {"continue": "t"}, "items": [1]}),
        status(410, "Expired"),
        response({"metadata": {"continue": "u"}, "items": [2]}),
        response({"metadata": {"resourceVersion": "9"}, "items": [3]}),
    )
    async with serving(answers) as server, Api(server.access) as api:
        assert await api.list(PATH) == {"metadata": {"resourceVersion": "9"}, "items": [2, 3]}
        assert [each.query for each in server.asked] == [
            "limit=500",
            "limit=500&continue=t",
            "limit=500",
            "limit=500&continue=u",
        ]


@trio.testing.trio_test
async def test_a_status_is_the_apis_word() -> None:
    async with serving(saying(status(429, "TooManyRequests", "slow down", Retry_After="7"))) as server:
        async with Api(server.access) as api:
            with pytest.raises(ApiStatus, match="slow down") as caught:
                await api.get(PATH)
            assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (429, "TooManyRequests", 7)
            assert caught.value.status["kind"] == "Status"
        server.answer = saying(response(b"404 page not found", 404))
        async with Api(server.access) as api:
            with pytest.raises(ApiStatus) as caught:
                await api.get(PATH)
            assert caught.value.code == 404


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "HTTP: the connection was closed without an answer"),
        (b"\x16\x03\x01\x00", "HTTP: illegal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "closed|incomplete"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000, "too long|too much"),
        (response(b"<html>"), "the answer is no JSON object"),
        (response([1]), "the answer is no JSON object"),
        (response(b"[" * 100_000), "the answer is no JSON object"),
        (response(b"x" * 5000), "more than 4096 bytes"),
        (response(b"<html>", 502), "answers 502 with no Kubernetes Status"),
        (response(b"x" * 5000, 502), "more than 4096 bytes"),
        (response({"kind": "Pod"}, 500), "answers 500 with no Kubernetes Status"),
        (
            response(b"", 302, Location="https://elsewhere.example"),
            "answers 302 with a redirect, which is not followed",
        ),
    ],
)
def test_everything_else_is_unreachable(answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 200_000 if b"[[" in answer else 4096
    monkeypatch.setattr(transport.Response.read, "__defaults__", (limit,))
    monkeypatch.setattr(connection, "MAX_ERROR", 4096)

    async def say(stream: trio.abc.Stream, asked: Asked) -> object:
        await stream.send_all(answer)
        return "end"

    async def main() -> None:
        async with serving(say) as server, Api(server.access) as api:
            with pytest.raises(ApiUnreachable, match=f"(?i){why}"):
                await api.create(PATH, {})
            assert len(server.asked) == 1

    trio.run(main)


@trio.testing.trio_test
async def test_a_server_that_hangs_and_one_that_is_not_there() -> None:
    async def hang(stream: trio.abc.Stream, asked: Asked) -> object:
        await trio.sleep_forever()

    async with serving(hang) as server:
        async with Api(server.access, request_timeout=0.05) as api:
            with pytest.raises(ApiUnreachable, match=r"does not answer within 0\.05 s"):
                await api.get(PATH)
            with pytest.raises(ApiUnreachable, match=r"does not answer within 0\.05 s"):
                async with api.stream(PATH, {}):
                    pass
        access = server.access
    async with Api(access) as api:
        with pytest.raises(ApiUnreachable, match="Connection refused"):
            await api.get(PATH)


@trio.testing.trio_test
async def test_an_idle_connection_that_was_closed_is_no_failure_of_a_read() -> None:
    async with serving(saying(response({}))) as server, Api(server.access) as api:
        await api.get(PATH)
        server.cut()
        await trio.testing.wait_all_tasks_blocked()
        await api.get(PATH)
        assert server.connections == 2
        server.cut()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ApiUnreachable):  # it may have been done
            await api.create(PATH, {})
        assert len(server.asked) == 2


@trio.testing.trio_test
async def test_lines_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_LINE", 1000)
    parts = [WATCH_HEAD, chunk(b"one\ntw"), chunk(b"o\n\n"), chunk(b"three\n"), b"0\r\n\r\n"]
    async with serving(saying(b"".join(parts))) as server, Api(server.access) as api:
        async with api.stream(PATH, {"watch": "1"}) as stream:
            found: list[bytes] = []
            while lines := await stream.lines():
                found += lines
            assert found == [b"one", b"two", b"three"]
        assert len(api._idle) == 1  # read to its end, so it can be used again
        server.answer = saying(WATCH_HEAD + chunk(b"half") + b"0\r\n\r\n")
        async with api.stream(PATH, {}) as stream:
            with pytest.raises(ApiUnreachable, match="ended amid a line"):
                await stream.lines()
        server.answer = saying(WATCH_HEAD + chunk(b"x" * 2000))
        async with api.stream(PATH, {}) as stream:
            with pytest.raises(ApiUnreachable, match="a line has more than 1000 bytes"):
                await stream.lines()
        assert not api._idle


@trio.testing.trio_test
async def test_tokens_are_read_again_and_never_said(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with serving(saying(response({}))) as server:
        access = Access(server=server.access.server, token_file=str(file))
        async with Api(access) as api:
            with pytest.raises(ApiUnreachable, match="token: No such file"):
                await api.get(PATH)
            for token in ("first", "second"):
                file.write_text(f"{token}\n")
                await api.get(PATH)
                assert server.asked[-1].headers["authorization"] == f"Bearer {token}"
            file.write_text("secret\r\nX: y")
            with pytest.raises(ApiUnreachable, match="is not one line of text") as caught:
                await api.get(PATH)
            assert "secret" not in str(caught.value)


class Tls:
    """A server's TLS that asks for client certificates of an authority."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1").configure_cert(self.context)
        self.ca.configure_trust(self.context)
        self.context.verify_mode = ssl.CERT_REQUIRED

    def client(self, name: str, folder: Path) -> None:
        issued = self.ca.issue_cert(f"{name}.example", common_name=name)
        issued.private_key_pem.write_to_path(str(folder / "key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "crt"))


@trio.testing.trio_test
async def test_client_certificates_are_read_again(tmp_path: Path) -> None:
    tls = Tls()
    tls.client("first", tmp_path)
    async with serving(saying(response({})), tls.context) as server:
        ca = tls.ca.cert_pem.bytes().decode()
        files = Access(server=server.access.server, ca=ca, certificate=str(tmp_path / "crt"), key=str(tmp_path / "key"))
        inline = Access(
            server=server.access.server,
            ca=ca,
            certificate_pem=(tmp_path / "crt").read_text(),
            key_pem=(tmp_path / "key").read_text(),
        )
        async with Api(files) as api:
            await api.get(PATH)
            await api.get(PATH)
            tls.client("second", tmp_path)
            await api.get(PATH)
            assert [(each.peer, each.connection) for each in server.asked] == [
                ("first", 1),
                ("first", 1),
                ("second", 2),
            ]
            (tmp_path / "key").write_text("torn")
            with pytest.raises(ApiUnreachable, match=r"the client certificate .*crt: no pair"):
                await api.get(PATH)
        async with Api(inline) as api:
            await api.get(PATH)
            assert server.asked[-1].peer == "first"
        other = Access(server=server.access.server, ca=trustme.CA().cert_pem.bytes().decode())
        async with Api(other) as api:
            with pytest.raises(ApiUnreachable, match="its certificate is not accepted"):
                await api.get(PATH)
        async with Api(Access(server=server.access.server, ca="no PEM")) as api:
            with pytest.raises(ApiUnreachable, match="is no certificate in PEM"):
                await api.get(PATH)
        name = Access(server=server.access.server, ca=ca, server_name="other.example")
        async with Api(name) as api:
            with pytest.raises(ApiUnreachable, match="not accepted: Hostname mismatch"):
                await api.get(PATH)


def test_paths() -> None:
    assert resource_path("", "v1", "nodes") == "/api/v1/nodes"
    assert resource_path("apps.example", "v1", "things", "ns", "a", "status") == (
        "/apis/apps.example/v1/namespaces/ns/things/a/status"
    )


def test_a_server_below_a_path() -> None:
    async def main(server: Serving) -> None:
        async with Api(Access(server=f"{server.access.server}/k8s/clusters/c")) as api:
            await api.get("/version")
        assert server.asked[0].path == "/k8s/clusters/c/version"

    async def run() -> None:
        async with serving(saying(response({}))) as server:
            await main(server)

    trio.run(run)
