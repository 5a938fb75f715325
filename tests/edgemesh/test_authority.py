"""The cluster's CA: made once and whole, and what it signs is taken by OpenSSL."""

import ssl
import stat
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from edgemesh import authority
from edgemesh.authority import AuthorityError, load, load_or_make, read_crl, user
from edgemesh.join import csr
from tests.edgemesh.join.cluster import NOW, at


def test_made_once_and_kept(tmp_path: Path) -> None:
    first = load_or_make(tmp_path / "pki", at())
    assert load_or_make(tmp_path / "pki", at()).pem == first.pem
    assert stat.S_IMODE((tmp_path / "pki" / "ca.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "pki").iterdir()) == ["ca.crt", "ca.key"]
    assert first.certificate.not_valid_after_utc - at() == timedelta(days=3652)


def test_a_key_without_a_certificate_is_gone_on_with(tmp_path: Path) -> None:
    pin = load_or_make(tmp_path, at()).pin
    (tmp_path / "ca.crt").unlink()
    assert load_or_make(tmp_path, at()).pin == pin


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("ca.key", b"", "ca.key is no private key in PEM"),
        ("ca.crt", b"rubbish", "ca.crt is no certificate in PEM"),
        ("ca.key", csr.new_key(), "is not the key of"),
    ],
)
def test_broken_files_are_said_and_left(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    load_or_make(tmp_path, at())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AuthorityError, match=text):
        load_or_make(tmp_path, at())
    assert (tmp_path / name).read_bytes() == content


def test_a_certificate_without_its_key_is_said(tmp_path: Path) -> None:
    load_or_make(tmp_path, at())
    (tmp_path / "ca.key").unlink()
    with pytest.raises(AuthorityError, match=r"ca\.key: No such file"):
        load_or_make(tmp_path, at())


def test_a_leaf_is_no_authority(tmp_path: Path) -> None:
    made = load_or_make(tmp_path, at()).client("a", ["b"], at())
    (tmp_path / "x.crt").write_bytes(made.certificate)
    (tmp_path / "x.key").write_bytes(made.key)
    with pytest.raises(AuthorityError, match="not the certificate of a CA"):
        load(tmp_path / "x.crt", tmp_path / "x.key")


def test_what_is_signed(tmp_path: Path) -> None:
    ca = load_or_make(tmp_path, at())
    key = csr.read_key(csr.new_key())
    node = x509.load_pem_x509_certificate(ca.sign_node(csr.check(csr.make(key, "a1"), "a1"), "a1", at()))
    assert user(node) == ("edgemesh:node:a1", ("edgemesh:nodes",))
    assert node.not_valid_after_utc == at() + timedelta(days=365)
    assert node.public_key() == key.public_key()
    admin = x509.load_pem_x509_certificate(ca.client("admin", ["system:masters"], at()).certificate)
    assert user(admin) == ("admin", ("system:masters",))
    server = x509.load_pem_x509_certificate(ca.server(["cloud.example", "192.0.2.1"], at()).certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cloud.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert all(ca.issued(each) for each in (node, admin, server))
    assert not load_or_make(tmp_path / "other", at()).issued(node)


def test_openssl_takes_server_and_client(tmp_path: Path) -> None:
    """A strict handshake in memory, both sides verified."""
    now = authority.utc(time.time())
    ca = load_or_make(tmp_path, now)
    contexts = []
    for protocol, pair in (
        (ssl.PROTOCOL_TLS_SERVER, ca.server(["cloud.example"], now)),
        (ssl.PROTOCOL_TLS_CLIENT, ca.client("admin", ["system:masters"], now)),
    ):
        context = ssl.SSLContext(protocol)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca.pem.decode())
        (tmp_path / "pair.pem").write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(tmp_path / "pair.pem")
        contexts.append(context)
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts[0].wrap_bio(one, two, server_side=True)
    client = contexts[1].wrap_bio(two, one, server_hostname="cloud.example")
    done = set()
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert done == {client, server}
    peer = server.getpeercert()
    assert peer
    assert (("commonName", "admin"),) in peer["subject"]


def test_the_list_of_the_revoked_only_grows(tmp_path: Path) -> None:
    ca = load_or_make(tmp_path, at())
    one = ca.revoke([1, 2], [], at())
    two = ca.revoke([3], [b"rubbish", one], at())
    read = [read_crl(each, [ca.certificate]) for each in (one, two)]
    assert read[0]
    assert read[1]
    assert read[0].number == int(NOW)
    assert read[1].number == int(NOW) + 1
    assert read[1].revoked == {1: at(), 2: at(), 3: at()}
    later = read_crl(ca.revoke([], [two], at() + timedelta(days=731)), [ca.certificate])
    assert later
    assert later.revoked == {}
    other = load_or_make(tmp_path / "other", at())
    assert read_crl(two, [other.certificate]) is None
    assert read_crl(two[:-1] + bytes([two[-1] ^ 1]), [ca.certificate]) is None
