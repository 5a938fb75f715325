"""The cloud's side of joining: who gets a certificate, who does not, and that nothing else comes of any request."""

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemesh.join import csr, objects, record, revocation
from edgemesh.join.endpoint import Answer
from edgemesh.join.messages import MAX_BODY, renewal
from edgemesh.join.objects import CONFIG_MAPS, NODES, REQUESTS, SECRETS
from sync.client.connection import ApiStatus, ApiUnreachable
from tests.edgemesh.join.cluster import Cloud, at

DAY = 86400.0


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "pki")


def ask(cloud: Cloud, body: object, path: str = "/join", method: str = "POST", address: str = "192.0.2.9") -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return trio.run(cloud.endpoint.handle, method, path, raw, address)


def wish(cloud: Cloud, name: str = "a1", key: bytes | None = None, **fields: Any) -> dict[str, Any]:
    request = csr.make(csr.read_key(key or csr.new_key()), name)
    return {"token": fields.pop("token", None) or cloud.token(), "csr": request, "nodeName": name, **fields}


def said(answer: Answer) -> str:
    status = json.loads(answer.body)
    assert (status["kind"], status["code"]) == ("Status", answer.code)
    return str(status["message"])


def joined(answer: Answer) -> dict[str, Any]:
    assert answer.code == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_a_node_joins(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    key, token = csr.new_key(), cloud.token()
    with caplog.at_level(logging.INFO):
        answer = joined(ask(cloud, wish(cloud, key=key, token=token, zone="harbour")))
    certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert cloud.authority.issued(certificate)
    assert certificate.public_key() == csr.read_key(key).public_key()
    assert answer["ca"] == cloud.authority.pem.decode()
    assert answer["cluster"]["relays"] == ["192.0.2.1:20006", "[2001:db8::1]:20006"]
    assert answer["cluster"] | {"relays": []} == {
        "apiServer": "https://192.0.2.1:6443",
        "join": "https://127.0.0.1:10002",
        "relays": [],
        "serviceCIDR": "10.97.0.0/16",
        "podCIDR": "10.245.0.0/16",
        "meshCIDR": "10.223.0.0/16",
        "clusterDomain": "site.example",
    }
    node = cloud.api.objects[f"{NODES}/a1"]
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "harbour"
    (request,) = (obj for path, obj in cloud.api.objects.items() if path.startswith(REQUESTS))
    assert request["spec"]["signerName"] == "edgemesh.kubeedge.io/node"
    assert request["status"]["conditions"][0]["type"] == "Approved"
    assert base64.b64decode(request["status"]["certificate"]).decode() == answer["certificate"]
    assert f"node a1 joined from 192.0.2.9 with the token {token[:6]}" in caplog.text
    secret = token.split(".")[1]
    assert secret not in caplog.text
    assert secret not in json.dumps(cloud.api.objects)


def test_twice_changes_nothing(cloud: Cloud) -> None:
    body = wish(cloud)
    first = ask(cloud, body)
    before = len(cloud.api.writes)
    assert ask(cloud, body) == first
    assert len(cloud.api.writes) == before
    again = wish(cloud, "a1", None, token=body["token"])
    assert ask(cloud, again).code == 409


def test_an_interruption_anywhere_is_made_up_for(cloud: Cloud) -> None:
    """The API fails at the n-th write, for each n; the same request again gets all that a whole one gets."""
    body = wish(cloud)
    for n in range(1, 20):
        fresh = Cloud(cloud.folder)
        fresh.api.objects.update({path: obj for path, obj in cloud.api.objects.items() if path.startswith(SECRETS)})
        put, left = fresh.api._put, [n]

        def failing(path: str, obj: Any, put: Any = put, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise ApiUnreachable("gone")
            return put(path, obj)

        fresh.api._put = failing  # type: ignore[method-assign]
        first = ask(fresh, body)
        if first.code == 200:
            assert n > 4
            return
        assert first.code == 503
        assert "Retry-After" in first.headers
        joined(ask(fresh, body))
        assert fresh.api.names("nodes") == ["a1"]
        assert len(fresh.api.names("certificatesigningrequests")) == 1
        (request,) = (obj for path, obj in fresh.api.objects.items() if path.startswith(REQUESTS))
        assert request["status"]["certificate"]
    pytest.fail("it never came through")


def test_of_two_at_once_one_has_the_name(cloud: Cloud) -> None:
    mine, theirs = wish(cloud), wish(cloud)
    inner: list[Answer] = []

    def between(path: str) -> None:
        if path == record.path("a1") and not inner:
            inner.append(Answer(0, b"", {}))
            other = Cloud(cloud.folder)
            other.api = cloud.api
            other.endpoint._api = cloud.api
            task = other.endpoint.handle("POST", "/join", json.dumps(theirs).encode(), "192.0.2.8")
            with pytest.raises(StopIteration) as end:  # nothing in it waits
                task.send(None)
            inner[0] = end.value.value

    cloud.api.before_create = between
    assert "another machine has this name" in said(ask(cloud, mine))
    joined(inner[0])


def test_tokens_are_checked(cloud: Cloud) -> None:
    token = cloud.token()
    id, secret, pin = token.split(".")
    unknown = said(ask(cloud, wish(cloud, token=f"zzzzzz.{secret}.{pin}")))
    assert unknown == said(ask(cloud, wish(cloud, token=f"{id}.{'z' * 16}.{pin}")))
    assert "edgemesh token create" in unknown
    assert "not a whole token" in said(ask(cloud, wish(cloud, token="x")))
    bound = cloud.token("a2")
    assert said(ask(cloud, wish(cloud, token=bound))) == "the token is for the node a2, not for a1"
    joined(ask(cloud, wish(cloud, "a2", token=bound)))
    cloud.now += DAY
    assert "the token ended at 2025-06-16T15:06:40Z" in said(ask(cloud, wish(cloud, token=token)))
    assert record.path("a1") not in cloud.api.objects


def test_names_are_checked(cloud: Cloud) -> None:
    token = cloud.token()
    for name in ("", "A1", "a/b", "..", "a" * 51, "a..b", "edgemesh:node:a", "-a"):
        body = wish(cloud, "a1", token=token) | {"nodeName": name}
        assert "can't be a node's name" in said(ask(cloud, body, address=f"192.0.2.{len(name)}"))
    assert "can't be" not in str(joined(ask(cloud, wish(cloud, "a" * 50, token=token))))


def other_request(key: Any, subject: list[tuple[x509.ObjectIdentifier, str]]) -> str:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741
RIGHT = [(O, "edgemesh:nodes"), (CN, "edgemesh:node:a1")]


def test_requests_are_checked(cloud: Cloud) -> None:
    token, key = cloud.token(), ec.generate_private_key(ec.SECP256R1())
    cases = [
        (other_request(key, [(CN, "edgemesh:node:a1")]), "not for this node"),
        (other_request(key, [*RIGHT, (O, "system:masters")]), "not for this node"),
        (other_request(key, [*RIGHT, (CN, "edgemesh:node:a1")]), "is for nobody"),
        (other_request(key, [(O, "edgemesh:nodes"), (CN, "edgemesh:node:a2")]), "edgemesh:node:a2, not for this node"),
        (other_request(ec.generate_private_key(ec.SECP384R1()), RIGHT), "not ECDSA P-256"),
        (other_request(rsa.generate_private_key(65537, 2048), RIGHT), "not ECDSA P-256"),
        (other_request(ed25519.Ed25519PrivateKey.generate(), RIGHT), "not ECDSA P-256"),
        ("rubbish", "can't be read"),
    ]
    good = x509.load_pem_x509_csr(other_request(key, RIGHT).encode()).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1]))
    cases.append((forged.public_bytes(serialization.Encoding.PEM).decode(), "signature is wrong"))
    for text, why in cases:
        body = {"token": token, "csr": text, "nodeName": "a1"}
        assert why in said(ask(cloud, body))
    assert record.path("a1") not in cloud.api.objects


def test_paths_sizes_and_rates(cloud: Cloud) -> None:
    assert json.loads(ask(cloud, b"", "/ca", "GET").body) == {"ca": cloud.authority.pem.decode(), "time": cloud.now}
    assert ask(cloud, b"", "/elsewhere", "GET").code == 404
    assert ask(cloud, b"", "/join", "GET").code == 405
    assert ask(cloud, b" " * (MAX_BODY + 1)).code == 413
    codes = [ask(cloud, b"{}", address=f"2001:db8::{n}").code for n in range(25)]
    assert codes == [400] * 20 + [429] * 5
    assert ask(cloud, b"{}", address="2001:db8::1").headers == {"Retry-After": "3"}
    assert ask(cloud, b"{}", address="2001:db8:0:1::1").code == 400
    cloud.now += 4
    assert ask(cloud, b"{}", address="2001:db8::1").code == 400


def test_an_api_in_trouble(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    body = wish(cloud)
    cloud.api.broken = ApiUnreachable("secret detail")
    answer = ask(cloud, body)
    assert (answer.code, answer.headers) == (503, {"Retry-After": "5"})
    assert b"secret detail" not in answer.body
    assert "secret detail" in caplog.text
    cloud.api.broken = ApiStatus(500, "InternalError", "no", {})
    assert ask(cloud, body).code == 503
    cloud.api.broken = None
    del cloud.api.objects[f"{CONFIG_MAPS}/edgemesh"]
    assert "the cloud is not ready" in said(ask(cloud, body))


def renew(cloud: Cloud, certificate: str, key: bytes, *, signer: bytes = b"", **changed: Any) -> Answer:
    private = csr.read_key(signer or key)
    text = csr.make(csr.read_key(key), "a1")
    signature = private.sign(renewal(text, cloud.now), ec.ECDSA(hashes.SHA256()))
    body = {
        "certificate": certificate,
        "csr": text,
        "time": cloud.now,
        "signature": base64.b64encode(signature).decode(),
    }
    return ask(cloud, body | changed, "/renew")


def test_renewal(cloud: Cloud) -> None:
    key = csr.new_key()
    first = joined(ask(cloud, wish(cloud, key=key)))["certificate"]
    assert joined(renew(cloud, first, key))["certificate"] == first  # too early
    cloud.now += 365 * 0.8 * DAY
    second = joined(renew(cloud, first, key))["certificate"]
    assert second != first
    assert joined(renew(cloud, first, key))["certificate"] == second  # the answer was lost
    assert len(cloud.api.names("certificatesigningrequests")) == 2
    cloud.now += (365 + 29) * DAY  # past its end, within the grace
    third = joined(renew(cloud, second, key))["certificate"]
    cloud.now += (365 + 31) * DAY
    assert "31 days ago, which is past the grace of 30" in said(renew(cloud, third, key))


def test_renewal_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    key = csr.new_key()
    held = joined(ask(cloud, wish(cloud, key=key)))["certificate"]
    assert "not that of the certificate's key" in said(renew(cloud, held, key, signer=csr.new_key()))
    assert "not that of the certificate's key" in said(renew(cloud, held, key, signature="%"))
    assert "not that of the certificate's key" in said(renew(cloud, held, key, time=cloud.now + 1))
    assert "can't be read" in said(renew(cloud, "rubbish", key))
    other = Cloud(tmp_path / "other")
    foreign = joined(ask(other, wish(other, key=key)))["certificate"]
    assert "not one of a node of this cluster" in said(renew(cloud, foreign, key))
    admin = cloud.authority.client("admin", ["system:masters"], at(cloud.now))
    assert "not one of a node" in said(renew(cloud, admin.certificate.decode(), admin.key))
    cloud.now += 1000
    late = renew(cloud, held, key)
    assert late.code == 200
    del cloud.api.objects[record.path("a1")]
    late = renew(cloud, held, key)
    assert late.code == 410
    assert "node a1 was deleted: it has to join anew" in said(late)


def test_clock_of_a_renewing_node(cloud: Cloud) -> None:
    key = csr.new_key()
    held = joined(ask(cloud, wish(cloud, key=key)))["certificate"]
    text, when = csr.make(csr.read_key(key), "a1"), cloud.now - 901
    signature = base64.b64encode(csr.read_key(key).sign(renewal(text, when), ec.ECDSA(hashes.SHA256()))).decode()
    answer = ask(cloud, {"certificate": held, "csr": text, "time": when, "signature": signature}, "/renew")
    assert "the node's clock says 2025-06-15 14:51:39 UTC, the cloud's 2025-06-15 15:06:40 UTC" in said(answer)


def revoke(cloud: Cloud) -> frozenset[int]:
    return trio.run(revocation.revoke, cloud.api, cloud.authority, cloud.folder / "ca.crl", at(cloud.now))


def test_a_deleted_record_is_revoked(cloud: Cloud) -> None:
    assert revoke(cloud) == frozenset()
    writes = len(cloud.api.writes)
    assert revoke(cloud) == frozenset()
    assert len(cloud.api.writes) == writes
    key = csr.new_key()
    first = joined(ask(cloud, wish(cloud, key=key)))["certificate"]
    cloud.now += 0.8 * 365 * DAY
    second = joined(renew(cloud, first, key))["certificate"]
    trio.run(cloud.api.delete, record.path("a1"))
    assert "just being deleted" in said(ask(cloud, wish(cloud, key=key)))
    serials = {x509.load_pem_x509_certificate(each.encode()).serial_number for each in (first, second)}
    assert revoke(cloud) == serials
    assert record.path("a1") not in cloud.api.objects
    published = revocation.crl_of(cloud.api.objects[objects.REVOKED])
    cloud.api.objects.pop(objects.REVOKED)  # somebody takes the list away
    assert revoke(cloud) == serials
    again = revocation.crl_of(cloud.api.objects[objects.REVOKED])
    cloud.api.objects[objects.REVOKED] = revocation.revoked_config(published)  # or puts an old one in its place
    assert revoke(cloud) == serials
    assert revocation.crl_of(cloud.api.objects[objects.REVOKED]) not in (published, again)
    joined(ask(cloud, wish(cloud)))  # the name is free


def test_a_broken_record_is_said(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    joined(ask(cloud, wish(cloud)))
    cloud.api.objects[record.path("a1")]["data"] = {"issued": "x"}
    assert "record of a1 is broken" in said(ask(cloud, wish(cloud)))
    trio.run(cloud.api.delete, record.path("a1"))
    revoke(cloud)
    assert "which certificates it stood for is not known" in caplog.text
    joined(ask(cloud, wish(cloud)))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
bodies = st.one_of(
    st.binary(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            name: json_values | st.just("x" * 9000)
            for name in ("token", "csr", "nodeName", "zone", "certificate", "time", "signature")
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", ""]),
    path=st.sampled_from(["/join", "/renew", "/ca", "/", ""]) | st.text(),
    body=bodies,
    address=st.text() | st.ip_addresses().map(str),
)
def test_nothing_raises(cloud: Cloud, method: str, path: str, body: bytes, address: str) -> None:
    answer = trio.run(cloud.endpoint.handle, method, path, body, address)
    assert answer.code == 200 if (method, path) == ("GET", "/ca") else 400 <= answer.code < 500
    assert isinstance(json.loads(answer.body), dict)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(der=st.binary(max_size=400), flip=st.integers(0, 10_000))
def test_broken_requests_are_refused(cloud: Cloud, der: bytes, flip: int) -> None:
    good = x509.load_pem_x509_csr(csr.make(csr.read_key(csr.new_key()), "a1").encode())
    raw = bytearray(good.public_bytes(serialization.Encoding.DER))
    raw[flip % len(raw)] ^= 1 + flip % 255
    for each in (der, bytes(raw)):
        pem = (
            b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(each) + b"-----END CERTIFICATE REQUEST-----\n"
        )
        with pytest.raises(csr.CsrError):
            csr.check(pem.decode(), "a1")
