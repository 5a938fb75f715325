"""Which of an API's objects are believed, with real certificates."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgemesh import proof
from edgemesh.authority import Authority, load_or_make
from edgemesh.proof import Verifier
from edgemesh.vetting import LOOK_AGAIN, REVOKED, Vetting
from sync.client.manifests import Changes
from sync.resources.kinds import ConfigMap, Key, MeshNode, Metadata, Resource
from tests.edgemesh import objects

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SECONDS = NOW.timestamp()


class Cluster:
    """A CA, its nodes' certificates, and their MeshNodes with proofs."""

    def __init__(self, folder: Path) -> None:
        self.authority: Authority = load_or_make(folder, NOW)
        self.serials: dict[str, int] = {}

    def join(self, name: str) -> tuple[bytes, bytes]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        certificate = self.authority.sign_node(csr, name, NOW)
        self.serials[name] = x509.load_pem_x509_certificate(certificate).serial_number
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate, pem

    def node(self, name: str, number: int, credentials: tuple[bytes, bytes], serial: int = 1) -> MeshNode:
        """A MeshNode as its node writes it."""
        return objects.mesh_node(name, number, proof=proof.make(name, objects.public_key(number), serial, *credentials))

    def revoked(self, *names: str, number: int) -> ConfigMap:
        """The list of the revoked."""
        crl = self.authority.crl({self.serials[name]: NOW for name in names}, number, NOW)
        return ConfigMap(
            metadata=Metadata(name=REVOKED.name, namespace=REVOKED.namespace),
            data={"crl": base64.b64encode(crl).decode()},
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "ca")


def vetting(cluster: Cluster, *known: Resource, seen: dict[str, int] | None = None) -> Vetting:
    return Vetting(Verifier(cluster.authority.pem, seen), known)


def take(it: Vetting, *changed: Resource, gone: tuple[Key, ...] = (), now: float = SECONDS) -> Changes:
    return it.take(Changes(list(changed), list(gone)), now)


def test_only_what_is_proven_passes(cluster: Cluster) -> None:
    it = vetting(cluster)
    a = cluster.node("a", 1, cluster.join("a"))
    bare, service = objects.mesh_node("b", 2), objects.service()
    assert take(it, a, bare, service).changed == [a, service]
    assert "no proof" in it.refused["b"]
    assert it.problems == [f"MeshNode b: refused: {it.refused['b']}"]
    proven = cluster.node("b", 2, cluster.join("b"))
    assert take(it, proven).changed == [proven]
    assert it.problems == []
    assert it.serials == {"a": 1, "b": 1}


def test_a_lie_about_a_key_changes_nothing(cluster: Cluster) -> None:
    """Neither another key under the same proof, nor another node's proof, nor another CA's."""
    it = vetting(cluster)
    credentials = cluster.join("a")
    a = cluster.node("a", 1, credentials)
    take(it, a)
    other_key = objects.mesh_node("a", 9, proof=a.spec.proof)
    another = objects.mesh_node("a", 9, proof=cluster.node("b", 9, cluster.join("b")).spec.proof)
    for lie in (other_key, another):
        assert take(it, lie) == Changes([], [])
        assert it.refused["a"]
    assert take(it, a).changed == [a]
    assert not it.refused
    moved = msgspec.structs.replace(a, spec=msgspec.structs.replace(a.spec, addresses=("192.0.2.99",)))
    assert take(it, moved).changed == [moved]  # addresses are tried, never believed


def test_a_replayed_proof_is_refused_after_a_restart_too(cluster: Cluster) -> None:
    credentials = cluster.join("a")
    old, new = cluster.node("a", 1, credentials, 5), cluster.node("a", 2, credentials, 6)
    it = vetting(cluster)
    take(it, old)
    take(it, new)
    assert take(it, old) == Changes([], [])
    assert "replays" in it.refused["a"]
    again = vetting(cluster, new, seen=it.serials)
    assert take(again, old) == Changes([], [])
    assert "replays" in again.refused["a"]
    again = vetting(cluster, seen=it.serials)  # the MeshNode was away meanwhile
    assert take(again, old) == Changes([], [])


def test_a_revoked_node_goes_at_once(cluster: Cluster) -> None:
    a, b = (cluster.node(name, number, cluster.join(name)) for name, number in (("a", 1), ("b", 2)))
    it = vetting(cluster, a, b)
    crl = cluster.revoked("a", number=7)
    assert take(it, crl) == Changes([crl], [a.key])
    assert "revoked" in it.refused["a"]
    assert take(it, a) == Changes([], [])
    # neither an older list, nor none, nor rubbish takes that back
    for text in (cluster.revoked(number=6).data["crl"], "", "?", base64.b64encode(b"x").decode()):
        assert take(it, msgspec.structs.replace(crl, data={"crl": text})).changed == []
        assert "stays in force" in it.trouble
        assert take(it, a) == Changes([], [])
    assert take(it, gone=(REVOKED,)) == Changes([], [])
    assert it.trouble.endswith("the API has it no more: the list of before stays in force")
    assert take(it, a) == Changes([], [])
    assert take(it, crl) == Changes([], [])  # put back as it was
    assert it.trouble == ""
    empty = cluster.revoked(number=8)
    assert take(it, empty, a).changed == [empty, a]
    assert it.problems == []


def test_the_list_of_the_revoked_is_in_the_snapshot(cluster: Cluster) -> None:
    a = cluster.node("a", 1, cluster.join("a"))
    it = vetting(cluster, cluster.revoked("a", number=7))
    assert take(it, a) == Changes([], [])
    assert "revoked" in it.refused["a"]


def test_what_ends_is_found_without_a_change(cluster: Cluster) -> None:
    a = cluster.node("a", 1, cluster.join("a"))
    it = vetting(cluster, a)
    assert take(it) == Changes([], [])
    later = (NOW + timedelta(days=365)).timestamp() + proof.GRACE + LOOK_AGAIN
    assert take(it, now=later).gone == [a.key]
    assert "ended" in it.refused["a"]


def test_a_clock_that_was_wrong_costs_no_peer_once_it_is_right(cluster: Cluster) -> None:
    a = cluster.node("a", 1, cluster.join("a"))
    it = vetting(cluster, a)
    ahead = SECONDS + 3 * 365 * 86400
    assert take(it, now=ahead).gone == [a.key]
    assert take(it, now=SECONDS).changed == [a]  # set back; nothing came from the API
    assert it.problems == []
    assert take(it, now=ahead).gone == [a.key]
    assert take(it, gone=(a.key,)) == Changes([], [a.key])  # the API's word counts for what it says is gone
    assert take(it, now=SECONDS + LOOK_AGAIN + 1) == Changes([], [])


def test_a_torn_ca_costs_no_peer(cluster: Cluster) -> None:
    a, b = (cluster.node(name, number, cluster.join(name)) for name, number in (("a", 1), ("b", 2)))
    it = Vetting(Verifier(b"torn"), [a])
    assert take(it, b) == Changes([], [])
    assert "pki/ca.crt" in it.refused["b"]
    assert take(it, a) == Changes([], [])
    assert take(it, now=SECONDS + LOOK_AGAIN + 1) == Changes([], [])


def test_a_name_that_is_given_again_begins_with_any_serial(cluster: Cluster) -> None:
    """The node before it had a clock that was years ahead."""
    old = cluster.node("a", 1, cluster.join("a"), 2**64 - 1)
    it = vetting(cluster, old, seen={"a": 2**64 - 1})
    crl = cluster.revoked("a", number=7)
    assert take(it, crl).gone == [old.key]
    new = cluster.node("a", 2, cluster.join("a"), 5)
    assert take(it, new).changed == [new]
    assert take(it, old) == Changes([], [])
    assert "revoked" in it.refused["a"]
    again = vetting(cluster, crl, new, seen=it.serials)
    assert take(again, old) == Changes([], [])
    assert again.serials == {"a": 5}


def test_one_that_goes_is_forgotten(cluster: Cluster) -> None:
    it = vetting(cluster)
    take(it, objects.mesh_node("b", 2))
    key = Key("MeshNode", "", "b")
    assert take(it, gone=(key,)).gone == [key]
    assert it.problems == []


def test_without_a_ca_nobody_is_believed(cluster: Cluster) -> None:
    it = Vetting(Verifier(b""))
    assert take(it, cluster.node("a", 1, cluster.join("a"))).changed == []
    assert "ca.crt" in it.refused["a"]
