"""The configuration file: EdgeMesh's own works, mistakes have a line and a cure."""

from pathlib import Path

import pytest
import yaml

from edgemesh.agent_file import FilterMode
from edgemesh.config import Config, ConfigError, load
from tunnel.endpoint import Address

ENVIRON = {"NODE_NAME": "node-a"}

FILE = """apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1
kind: EdgeMeshAgent
kubeAPIConfig:
  master: https://127.0.0.1:6443
  qps: 100
  metaServer:
    server: http://127.0.0.1:10550
commonConfig:
  bridgeDeviceName: mesh0
  bridgeDeviceIP: 169.254.96.17
modules:
  edgeDNS:
    enable: true
    listenPort: 5353
    cacheDNS:
      enable: true
  edgeProxy:
    enable: false
    serviceFilterMode: FilterIfLabelDoesNotExists
    socks5Proxy:
      enable: true
    loadBalancer:
      consistentHash: {load: 1.25}
  edgeTunnel:
    enable: true
    listenPort: 20007
    relayNodes:
      - nodeName: cloud
        advertiseAddress: [198.51.100.10, "203.0.113.1:4500"]
    psk: {enable: true, path: /etc/edgemesh/psk}
  edgeCNI:
    enable: true
    meshCIDRConfig: {cloudCIDR: [10.244.0.0/18]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "edgemesh-agent.yaml"
    found.write_text(FILE)
    return found


def test_edgemeshs_file_is_used_where_it_has_the_setting(path: Path) -> None:
    config, notices = load(str(path), ENVIRON)
    assert config == Config(
        node_name="node-a",
        bridge_device="mesh0",
        bridge_address="169.254.96.17",
        dns_port=5353,
        proxy=False,
        filter_mode=FilterMode.DOES_NOT_EXIST,
        relay_port=20007,
        relays=config.relays,
        master="https://127.0.0.1:6443",
    )
    assert config.relay_addresses == (Address("198.51.100.10", 20007), Address("203.0.113.1", 4500))
    assert config.relays[0].name == "cloud"
    assert config.dns_listen == Address("169.254.96.17", 5353)
    assert [(notice.line, notice.field) for notice in notices] == [
        (5, "kubeAPIConfig.qps"),
        (6, "kubeAPIConfig.metaServer"),
        (15, "modules.edgeDNS.cacheDNS"),
        (20, "modules.edgeProxy.socks5Proxy"),
        (22, "modules.edgeProxy.loadBalancer"),
        (30, "modules.edgeTunnel.psk"),
        (32, "modules.edgeCNI.enable"),
        (33, "modules.edgeCNI.meshCIDRConfig"),
    ]
    assert str(notices[0]).startswith(f"{path}:5: kubeAPIConfig.qps has no effect: objects are watched")


def test_every_field_of_edgemesh_is_known(path: Path) -> None:
    """All of EdgeMesh 1.17's, as its documentation has them."""
    fields = {
        "kubeAPIConfig": "contentType qps burst mode metaServer deleteKubeConfig",
        "commonConfig": "pprofConfig",
        "edgeDNS": "kubeAPIConfig listenInterface cacheDNS",
        "edgeProxy": "listenInterface socks5Proxy loadBalancer",
        "edgeTunnel": "mode nodeName transport rendezvous enableIpfsLog maxCandidates heartbeatPeriod finderPeriod psk "
        "tunnelLimitConfig configPath listenInterfaces extraFilteredInterfaces metricConfig",
        "edgeCNI": "enable encapIP tunMode meshCIDRConfig",
    }
    content = {
        "kubeAPIConfig": dict.fromkeys(fields["kubeAPIConfig"].split(), "x"),
        "commonConfig": dict.fromkeys(fields["commonConfig"].split(), "x"),
        "modules": {
            name: dict.fromkeys(fields[name].split(), "x") for name in ("edgeDNS", "edgeProxy", "edgeTunnel", "edgeCNI")
        },
    }
    path.write_text(yaml.safe_dump(content))
    config, notices = load(str(path), ENVIRON)
    assert config == Config(node_name="node-a")
    assert len(notices) == sum(len(names.split()) for names in fields.values())
    assert all(notice.text for notice in notices)


def test_our_own_settings(path: Path) -> None:
    path.write_text("""commonConfig:
  clusterDomain: Edge.Example.
  serviceCIDR: 10.100.0.0/16
  podCIDR: 10.101.0.0/16
  meshCIDR: 10.102.0.0/24
  stateDir: /srv/state
  runDir: /srv/run
modules: {edgeTunnel: {deviceName: wg7}}
""")
    config, notices = load(str(path), ENVIRON)
    assert notices == []
    assert (config.cluster_domain, config.service_range, config.pod_range) == (
        "edge.example",
        "10.100.0.0/16",
        "10.101.0.0/16",
    )
    assert (config.snapshot_file, config.table_file) == ("/srv/state/snapshot", "/srv/state/dns.table")
    assert (config.resolver_socket, config.agent_socket) == ("/srv/run/resolver.sock", "/srv/run/agent.sock")
    assert config.engine_socket == "/run/wireguard/wg7.sock"


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("qps:", "qpss:", 5, "kubeAPIConfig.qpss: unknown field 'qpss'; did you mean 'qps'?"),
        ("cacheDNS", "cashDNS", 15, "unknown field 'cashDNS'; did you mean 'cacheDNS'?"),
        ("modules:", "module:", 11, "module: unknown field 'module'; did you mean 'modules'?"),
        ("relayNodes", "relaynodes", 27, "did you mean 'relayNodes'?"),
        ("advertiseAddress", "address", 29, "did you mean 'advertiseAddress'?"),
        ("198.51.100.10,", "relay.example,", 29, "advertiseAddress[0]: 'relay.example' is not an address; an IP"),
        ("169.254.96.17", "169.254.96", 10, "commonConfig.bridgeDeviceIP: '169.254.96' is not an IPv4 address"),
        ("169.254.96.17", "'fd00::17'", 10, "commonConfig.bridgeDeviceIP: 'fd00::17' is not an IPv4 address"),
        ("mesh0", "a-name-that-is-too-long", 9, "is not a device's name"),
        ("5353", "99999", 14, "modules.edgeDNS.listenPort: 99999 is out of range; a whole number <= 65535"),
        ("enable: false", "enable: never", 18, "modules.edgeProxy.enable: 'never' is text; true or false"),
        ("DoesNotExists", "Missing", 19, "FilterIfLabelExists, FilterIfLabelDoesNotExists"),
        ("v1alpha1", "v1", 1, "apiVersion: is 'agent.edgemesh.config.kubeedge.io/v1'; agent.edgemesh"),
        ("kind: EdgeMeshAgent", "kind: EdgeMeshAgnt", 2, "did you mean 'EdgeMeshAgent'?"),
        ("  bridgeDeviceName: mesh0", "  meshCIDR: 10.244.3.0/24", 9, "overlaps podCIDR 10.244.0.0/16"),
        ("  bridgeDeviceName: mesh0", "  meshCIDR: 192.168.7.0/24", 9, "overlaps 192.168.0.0/16, which sites use"),
        ("  bridgeDeviceName: mesh0", "  meshCIDR: 100.100.0.0/16", 9, "overlaps 100.64.0.0/10"),
        ("  bridgeDeviceName: mesh0", "  meshCIDR: 172.17.9.0/24", 9, "overlaps 172.17.0.0/16"),
        (
            "  bridgeDeviceName: mesh0",
            "  serviceCIDR: 10.97.0.0/12",
            9,
            "is not a range of IPv4 addresses; 10.96.0.0/12",
        ),
        ("  bridgeDeviceName: mesh0", "  serviceCIDR: 'fd96::/108'", 9, "is not a range of IPv4 addresses; such as"),
        ("  bridgeDeviceName: mesh0", "  stateDir: state", 9, "not an absolute path"),
        ("  bridgeDeviceName: mesh0", "  clusterDomain: a..b", 9, "not a domain"),
        ("  bridgeDeviceName: mesh0", f"  clusterDomain: {'a' * 60}_b.example", 9, "not a domain"),
        ("modules:\n", "modules: [\n", 13, "did not find expected ',' or ']'; check the indentation"),
        ("kind: EdgeMeshAgent", "kind: EdgeMeshAgent\n---\nkind: EdgeMeshAgent", 4, "a second document"),
    ],
)
def test_mistakes(path: Path, old: str, new: str, line: int, text: str) -> None:
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(str(path), ENVIRON)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert text in str(caught.value)


def test_no_file_and_empty_file_are_defaults(path: Path) -> None:
    assert load(None, ENVIRON) == (Config(node_name="node-a"), [])
    path.write_text("# nothing\n")
    assert load(str(path), ENVIRON) == (Config(node_name="node-a"), [])
    with pytest.raises(ConfigError, match=r"nowhere.yaml: can't be read: No such file"):
        load(str(path.with_name("nowhere.yaml")), ENVIRON)


def test_nodes_name(path: Path) -> None:
    assert load(None, {})[0].node_name
    with pytest.raises(ConfigError, match="'Node A' is not a node's name: set NODE_NAME"):
        load(None, {"NODE_NAME": "Node A"})
