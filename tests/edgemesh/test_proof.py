"""Proofs: what holds, and each way in which one does not."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from edgemesh import proof
from edgemesh.authority import Authority, load_or_make
from edgemesh.join import csr
from edgemesh.proof import Verifier
from sync.resources.kinds import MeshNode, MeshNodeSpec, Metadata
from tests.edgemesh.join.cluster import NOW, at

KEY, OTHER = bytes(range(32)), bytes(32)
YEAR = 365 * 86400.0


class Node(NamedTuple):
    certificate: bytes
    key: bytes
    serial: int


def node(ca: Authority, name: str) -> Node:
    key = csr.new_key()
    certificate = ca.sign_node(csr.check(csr.make(csr.read_key(key), name), name), name, at())
    return Node(certificate, key, x509.load_pem_x509_certificate(certificate).serial_number)


def mesh_node(name: str, text: str, key: bytes = KEY) -> MeshNode:
    spec = MeshNodeSpec(public_key=base64.b64encode(key).decode(), listen_port=20000, proof=text)
    return MeshNode(metadata=Metadata(name=name), spec=spec)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_make(tmp_path_factory.mktemp("ca"), at())


@pytest.fixture(scope="module")
def a1(ca: Authority) -> Node:
    return node(ca, "a1")


def made(a1: Node, serial: int = 5, name: str = "a1", key: bytes = KEY) -> str:
    return proof.make(name, key, serial, a1.certificate, a1.key)


def test_holds(ca: Authority, a1: Node) -> None:
    verifier = Verifier(ca.pem)
    assert verifier.check(mesh_node("a1", made(a1)), NOW) == ""
    assert verifier.seen == {"a1": 5}
    assert verifier.check(mesh_node("a1", made(a1, 6)), NOW) == ""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda ca, other, a1: mesh_node("a1", ""), "no proof"),
        (lambda ca, other, a1: mesh_node("a1", "%"), "not base64"),
        (lambda ca, other, a1: mesh_node("a1", "AAAA"), "only 3 bytes"),
        (lambda ca, other, a1: mesh_node("a1", "A" * 9000), "at most 8192"),
        (lambda ca, other, a1: mesh_node("a1", base64.b64encode(b"\2" + bytes(200)).decode()), "of version 2"),
        (lambda ca, other, a1: mesh_node("a1", base64.b64encode(b"\1" + bytes(200)).decode()), "certificate can't be"),
        (lambda ca, other, a1: mesh_node("a1", made(node(other, "a1"))), "not of this cluster's CA"),
        (lambda ca, other, a1: mesh_node("a2", made(a1, name="a2")), "edgemesh:node:a1's, not that of node a2"),
        (lambda ca, other, a1: mesh_node("a1", made(a1), OTHER), "for another key"),
        (lambda ca, other, a1: mesh_node("a1", made(a1, name="a2")), "for another key"),
        (lambda ca, other, a1: mesh_node("a1", made(a1._replace(key=csr.new_key()))), "for another key"),
    ],
)
def test_is_refused(
    ca: Authority, a1: Node, tmp_path: Path, make: Callable[[Authority, Authority, Node], MeshNode], reason: str
) -> None:
    verifier = Verifier(ca.pem)
    refused = make(ca, load_or_make(tmp_path, at()), a1)
    assert reason in verifier.check(refused, NOW)
    assert reason in verifier.check(refused, NOW)  # and from what was kept
    assert verifier.seen == {}


def test_other_certificates_of_the_authority_are_no_nodes(ca: Authority) -> None:
    for user, groups in (
        ("edgemesh:node:a1", ["system:masters"]),
        ("edgemesh:node:a1", []),
        ("a1", ["edgemesh:nodes"]),
    ):
        pair = ca.client(user, groups, at())
        text = proof.make("a1", KEY, 5, pair.certificate, pair.key)
        assert "not that of node a1" in Verifier(ca.pem).check(mesh_node("a1", text), NOW)


def test_a_replay_is_told_also_after_a_restart(ca: Authority, a1: Node) -> None:
    verifier = Verifier(ca.pem, {"a1": 9})
    assert "serial 8, 9 was seen" in verifier.check(mesh_node("a1", made(a1, 8)), NOW)
    assert verifier.check(mesh_node("a1", made(a1, 9)), NOW) == ""
    verifier.forget("a1")
    assert "replays" in verifier.check(mesh_node("a1", made(a1, 8, key=OTHER), OTHER), NOW)


def test_time(ca: Authority, a1: Node) -> None:
    verifier, held = Verifier(ca.pem, grace=1000), mesh_node("a1", made(a1))
    assert verifier.check(held, 0) == ""  # a clock that has no battery
    assert verifier.check(held, NOW + YEAR + 1000) == ""
    assert verifier.check(held, NOW + YEAR + 1001) == "its certificate ended on 2026-06-15: the node has to join anew"


def test_revoked(ca: Authority, a1: Node, tmp_path: Path) -> None:
    verifier, held = Verifier(ca.pem), mesh_node("a1", made(a1))
    assert verifier.check(held, NOW) == ""
    first = ca.revoke([], [], at())
    second = ca.revoke([a1.serial], [first], at())
    assert verifier.revocations(second) == ""
    assert "revoked" in verifier.check(held, NOW)
    assert "an old one" in verifier.revocations(first)
    assert "not signed" in verifier.revocations(b"rubbish")
    assert "not signed" in verifier.revocations(load_or_make(tmp_path, at()).revoke([], [], at(NOW * 1.1)))
    assert "revoked" in verifier.check(held, NOW)


def test_no_bit_of_what_is_said_can_be_changed(ca: Authority, a1: Node) -> None:
    """Every one is tried. What is left are other spellings of the CA's signature, which say the same."""
    whole = base64.b64decode(made(a1))
    said = x509.load_der_x509_certificate(whole[73:]).tbs_certificate_bytes
    for place in range(8 * len(whole)):
        raw = bytearray(whole)
        raw[place // 8] ^= 1 << place % 8
        verifier = Verifier(ca.pem)
        if verifier.check(mesh_node("a1", base64.b64encode(raw).decode()), NOW) == "":
            assert raw[:73] == whole[:73]
            assert x509.load_der_x509_certificate(bytes(raw[73:])).tbs_certificate_bytes == said
        else:
            assert verifier.seen == {}


@given(text=st.one_of(st.text(), st.binary().map(lambda raw: base64.b64encode(b"\1" + raw).decode())))
def test_rubbish_is_only_refused(ca: Authority, text: str) -> None:
    assert Verifier(ca.pem).check(mesh_node("a1", text), NOW) != ""


@given(crl=st.binary())
def test_rubbish_is_no_list(ca: Authority, crl: bytes) -> None:
    assert Verifier(ca.pem).revocations(crl) != ""


def test_own_proof_is_kept_and_rises(ca: Authority, a1: Node, tmp_path: Path) -> None:
    state = str(tmp_path)
    assert proof.own(state, "a1", KEY, NOW) == ""
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "node.crt").write_bytes(a1.certificate)
    (tmp_path / "pki" / "node.key").write_bytes(a1.key)
    first = proof.own(state, "a1", KEY, NOW)
    assert proof.read(first).serial == int(NOW * 1000)
    assert proof.own(state, "a1", KEY, NOW + 10) == first
    second = proof.own(state, "a1", OTHER, NOW - 1000)  # the clock was set back
    assert proof.read(second).serial == int(NOW * 1000) + 1
    (tmp_path / "pki" / "node.crt").write_bytes(node(ca, "a1").certificate)
    (tmp_path / "pki" / "proof").write_bytes(b"torn")
    mixed = proof.own(state, "a1", KEY, NOW + 20)  # a certificate for another key than the node's proves nothing
    assert proof.read(mixed).serial == int((NOW + 20) * 1000)
    assert "for another key" in Verifier(ca.pem).check(mesh_node("a1", mixed), NOW)
    (tmp_path / "pki" / "node.crt").write_bytes(b"")
    with pytest.raises(proof.ProofError, match=r"node\.crt is no certificate"):
        proof.own(state, "a1", KEY, NOW)
