"""Cloud, relay, agents and engines as they run, against an API and a relay in an attacker's hands.

What is refused, what `status` says of it on each node that saw it, and that the tunnel goes on.
"""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from edgemesh import authority
from edgemesh.join.revocation import revoked_config
from sync.client.connection import MERGE_PATCH
from tests.edgemesh.cloud.taken import (
    ADDRESS,
    CONFIG_MAPS,
    MESH_NODES,
    PRIVATE,
    RELAY_PORT,
    REVOKED,
    SECOND_PORT,
    Node,
    Object,
    Taken,
    mesh_node,
    public_key,
    running,
)

pytestmark = [pytest.mark.bed, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    with running(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_crashed(taken: Taken) -> Iterator[None]:
    """All lies are withdrawn, and whoever was told them is well."""
    yield
    taken.until_connected()
    for node in (taken.a, taken.b):
        node.is_silent_about("refused", "edgemesh-revoked", "no path", "nothing has come")
        assert node.engine.process.poll() is None
        for role in (node.engine, node.agent):
            assert "Traceback" not in role.said, role.said
    assert "Traceback" not in taken.relay.said


def told(node: Node) -> Object:
    """What `edgemesh status --json` prints on a node."""
    found: Object = json.loads(node.host.run("status", "--json").stdout)
    return found


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("no proof", "it has no proof that the key is its own"),
        ("its own proof", "its proof is for another key"),
        ("the thief's proof", "its certificate is edgemesh:node:thief's, not that of node b"),
        ("a proof of another CA", "its certificate is not of this cluster's CA"),
        ("rubbish", "its proof can't be read"),
    ],
)
def test_a_lie_about_a_key(taken: Taken, lie: str, reason: str, tmp_path: Path) -> None:
    key = base64.b64encode(public_key()).decode()
    if lie == "a proof of another CA":
        other = authority.load_or_make(tmp_path, datetime.now(UTC))
        proven = mesh_node("b", other.client("edgemesh:node:b", ("edgemesh:nodes",), datetime.now(UTC)))["spec"][
            "proof"
        ]
    else:
        thief = mesh_node("b", taken.kept.thief)["spec"]["proof"]
        proofs = {"no proof": "", "its own proof": taken.mesh_node("b")["spec"]["proof"], "rubbish": "AQ=="}
        proven = proofs.get(lie, thief)
    before = taken.a.peers()
    with taken.lie("b", publicKey=key, proof=proven):
        for node in (taken.a, taken.b):
            node.says("MeshNode b: refused", reason)
        assert any(reason in text for text in told(taken.a)["problems"])
        taken.relay.says(f"MeshNode b: refused: {reason}")
        assert taken.a.peers() == before
        assert taken.a.reaches(taken.b)
        assert taken.b.reaches(taken.a)
    for node in (taken.a, taken.b):
        node.is_silent_about("refused")
    assert taken.a.peers() == before


def test_a_node_claims_what_is_anothers(taken: Taken) -> None:
    """The thief is a node and proves all that it says; what it says is b's: its key, its mesh address, its range."""
    b = taken.mesh_node("b")
    before = taken.a.peers()
    try:
        taken.put(mesh_node("thief", taken.kept.thief, base64.b64decode(b["spec"]["publicKey"])))
        for node in (taken.a, taken.b):
            node.says("MeshNode thief: refused: it has the public key of b")
        own_key = mesh_node("thief", taken.kept.thief)
        status = {name: b["status"][name] for name in ("meshAddresses", "podRanges")}
        taken.put({**own_key, "status": {**status, "publicKey": own_key["spec"]["publicKey"]}})
        for node in (taken.a, taken.b):
            for claimed in (*status["meshAddresses"], *status["podRanges"]):
                node.says("MeshNode thief", f"{claimed} is refused: it overlaps what b has")
        assert taken.a.reaches(taken.b)
    finally:
        taken.do("DELETE", f"{MESH_NODES}/thief")
    taken.a.until("has lost the thief", lambda it: it.peers() == before)


def test_an_old_proof_is_replayed(taken: Taken) -> None:
    """Of the key that b had before, which the attacker may have got hold of; a's memory of it outlives a restart."""
    now, old = taken.mesh_node("b"), taken.kept.mesh_nodes["b"]
    before = taken.a.peers()
    assert old["spec"]["publicKey"] != now["spec"]["publicKey"]
    taken.put(old)
    try:
        for node in (taken.a, taken.b):
            node.says("MeshNode b: refused: its proof is an old one", "somebody replays it")
        taken.relay.says("MeshNode b: refused: its proof is an old one")
        taken.a.restart_agent()
        taken.a.says("MeshNode b: refused: its proof is an old one")
        assert taken.a.peers() == before
        assert taken.a.reaches(taken.b)
        taken.do("DELETE", f"{MESH_NODES}/b")
        taken.a.until("has lost the hidden one", lambda it: it.peers() == set())
        taken.put(old)  # hidden first, then another time
        taken.a.says("MeshNode b: refused: its proof is an old one")
        taken.a.restart_agent()
        taken.a.says("MeshNode b: refused: its proof is an old one")
        assert taken.a.peers() == set()
    finally:
        taken.put(now)


def test_the_list_of_the_revoked_is_withheld(taken: Taken, tmp_path: Path) -> None:
    """A deleted node stays out, whatever is done to the list, and when agent and relay start again."""
    gone, peers = taken.kept.mesh_nodes["gone"], taken.a.peers()
    true = taken.do("GET", REVOKED)["data"]["crl"]
    stranger = authority.load_or_make(tmp_path, datetime.now(UTC)).crl({}, 10**6, datetime.now(UTC))
    lies = {
        taken.kept.crl: "is an old one",
        base64.b64encode(stranger).decode(): "is not signed by the cluster's CA",
        "": "there is none in it",
        "bGll": "is not signed",
    }
    try:
        taken.put(gone)
        for node in (taken.a, taken.b):
            node.says("MeshNode gone: refused: its certificate is revoked")
        for crl, reason in lies.items():
            taken.do("PATCH", REVOKED, {"data": {"crl": crl}}, MERGE_PATCH)
            taken.relay.says(reason)
            for node in (taken.a, taken.b):
                node.says("edgemesh-revoked", reason, "the list of before stays in force")
                node.says("MeshNode gone: refused: its certificate is revoked")
            assert "does not admit this node's key" in taken.relay_answers(PRIVATE)
        taken.do("DELETE", REVOKED)
        for node in (taken.a, taken.b):
            node.says("edgemesh-revoked", "the API has it no more", "the list of before stays in force")
        taken.a.restart_agent()
        taken.a.says("edgemesh-revoked", "the API has it no more")
        taken.a.says("MeshNode gone: refused: its certificate is revoked")
        taken.relay.signal(signal.SIGTERM)
        assert taken.relay.ends() == 0
        taken.relay = taken.start_relay()
        taken.relay.says("MeshNode gone: refused: its certificate is revoked")
        admitted = [line for line in taken.relay.said.splitlines() if "admitting" in line]
        assert admitted == ["INFO edgemesh.relay: admitting 2 nodes: a, b"]
        assert "does not admit this node's key" in taken.relay_answers(PRIVATE)
        assert taken.a.peers() == peers
    finally:
        taken.do("DELETE", f"{MESH_NODES}/gone")
        config = revoked_config(base64.b64decode(true))
        if taken.ask("POST", CONFIG_MAPS, config)[0] == 409:
            taken.do("PATCH", REVOKED, {"data": config["data"]}, MERGE_PATCH)


def test_a_node_is_hidden(taken: Taken) -> None:
    """That is what an API can do: the tunnel goes. The hidden node says so, and it is back as soon as it is shown."""
    b, peers = taken.mesh_node("b"), taken.a.peers()
    taken.do("DELETE", f"{MESH_NODES}/b")
    try:
        taken.a.until("has lost the hidden one", lambda it: it.peers() == set())
        assert not taken.a.path("b")
        taken.relay.says("admitting 1 nodes: a\n")
        taken.b.says("MeshNode b: there is none for this node: others can't reach it")
        assert not taken.a.reaches(taken.b)
    finally:
        taken.put(b)
    taken.a.until("has it again", lambda it: it.peers() == peers)


def test_a_relay_lies(taken: Taken) -> None:
    """It can drop, and be found out; it reads nothing, is nobody, and no lie of its own stays."""
    a, b = taken.a, taken.b
    keys = a.peers(), b.peers()

    def replace(mode: str) -> None:
        taken.relay.signal(signal.SIGTERM)
        taken.relay.ends()
        taken.relay = taken.start_rogue(mode)

    try:
        replace("claims")
        for host in ("10.1.0.2", "10.2.0.2"):
            taken.relay.says(f"{host} is told that it is ", 15)
        taken.until_connected()
        assert a.path("b")["path"] == "relayed"
        replace("forges")
        taken.relay.says("crossed", 15)
        for node, other in ((a, b), (b, a)):
            node.until("has an echo amid forgeries", partial(Node.reaches, other=other))
        replace("reflects")
        taken.relay.says("crossed", 15)
        for node, name in ((a, "b"), (b, "a")):
            node.says(f"nothing has come from {name} for ", "or the relay passes nothing on", within=20)
        assert not a.reaches(b)
        assert (a.peers(), b.peers()) == keys
        second = taken.start_relay(SECOND_PORT)
        a.until("goes to the other relay", lambda it: it.reaches(b), 20)
        assert a.path("b")["endpoint"] == f"{ADDRESS}:{SECOND_PORT}"
        second.signal(signal.SIGTERM)
        assert second.ends() == 0
        replace("refuses")
        for node, name in ((a, "b"), (b, "a")):
            node.says(f"no path to {name}: ", within=20)
            node.says(f"relay {ADDRESS}:{RELAY_PORT}: this node's key is not among those the relay admits")
    finally:
        taken.relay.signal(signal.SIGTERM)
        taken.relay.ends()
        taken.relay = taken.start_relay()
    taken.until_connected()
    assert (a.peers(), b.peers()) == keys
