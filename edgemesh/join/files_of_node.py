"""What a node that joined has on its disk, as pure text.

STATE/pki/{ca.crt, node.crt, node.key}    the cluster's CA, this node's certificate and its TLS key (0600)
STATE/pki/api-ca.crt                      whom the API's own certificate is of, where that is not the cluster's CA
STATE/pki/cluster.json                    what the cloud said of the cluster: where to renew, relays, ranges
STATE/node.kubeconfig                     how the agent reaches the API (0600)
CONFIG/edgemesh-agent.yaml                EdgeMeshAgent configuration
UNITS/edgemesh-*.service                  systemd units
"""

from __future__ import annotations

import base64
from pathlib import Path

from msgspec import Struct

from edgemesh.address import host_port
from edgemesh.agent_file import API_VERSION, KIND
from edgemesh.join.messages import Cluster
from edgemesh.names import node_user
from sync.resources.validate import split_host_port

CONFIG_DIR = Path("/etc/edgemesh/config")
STATE_DIR = Path("/var/lib/edgemesh")
SYSTEMD_DIR = Path("/etc/systemd/system")


class Places(Struct, frozen=True, kw_only=True):
    """Where things are."""

    state_dir: Path = STATE_DIR
    config_dir: Path = CONFIG_DIR
    systemd_dir: Path = SYSTEMD_DIR

    @property
    def pki(self) -> Path:
        """The folder of certificates."""
        return self.state_dir / "pki"

    @property
    def ca(self) -> Path:
        """The cluster's CA."""
        return self.pki / "ca.crt"

    @property
    def api_ca(self) -> Path:
        """Whom the API's own certificate is of; the cluster's CA where it is not there, the system's where it is empty.

        Of its clients the API believes those of the cluster's CA.
        """
        return self.pki / "api-ca.crt"

    @property
    def certificate(self) -> Path:
        """The node's; written last of what comes from the cloud: with it the node has joined."""
        return self.pki / "node.crt"

    @property
    def key(self) -> Path:
        """The node's TLS key."""
        return self.pki / "node.key"

    @property
    def next_key(self) -> Path:
        """The key that a deleted node joins anew with; it takes the place of `key` when the cloud has taken it."""
        return self.pki / "node.key.next"

    @property
    def cluster(self) -> Path:
        """What the cloud said."""
        return self.pki / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The agent's way to the API."""
        return self.state_dir / "node.kubeconfig"

    @property
    def config(self) -> Path:
        """EdgeMeshAgent."""
        return self.config_dir / "edgemesh-agent.yaml"


class File(Struct, frozen=True):
    """A file as it should be; `ours` tells those that nobody else edits, which are replaced where they differ."""

    path: Path
    text: str
    mode: int = 0o644
    ours: bool = False


def kubeconfig(places: Places, name: str, cluster: Cluster, api_ca: str) -> File:
    """The node's kubeconfig: its certificate by path, so that a renewed one is taken up.

    `api_ca` is whom the API's own certificate is of, PEM; empty for the system's authorities.
    """
    data = base64.b64encode(api_ca.encode()).decode()
    authority = f"\n    certificate-authority-data: {data}" if api_ca else ""
    text = f"""\
apiVersion: v1
kind: Config
current-context: edgemesh
clusters:
- name: edgemesh
  cluster:
    server: {_quoted(cluster.api_server)}{authority}
contexts:
- name: edgemesh
  context:
    cluster: edgemesh
    user: {_quoted(node_user(name))}
users:
- name: {_quoted(node_user(name))}
  user:
    client-certificate: {_quoted(str(places.certificate))}
    client-key: {_quoted(str(places.key))}
"""
    return File(places.kubeconfig, text, 0o600, ours=True)


def agent_config(places: Places, cluster: Cluster) -> File:
    """The agent's configuration: what the cloud says, and where the kubeconfig is."""
    hosts = [split_host_port(relay, 20006) for relay in cluster.relays]
    relays = "".join(
        f"""
      - nodeName: {_quoted(f"relay-{number}")}
        advertiseAddress: [{_quoted(host_port(host, port))}]"""
        for number, (host, port) in enumerate(hosts, 1)
    )
    text = f"""\
# written by edgemesh join; yours to edit
apiVersion: {API_VERSION}
kind: {KIND}
kubeAPIConfig:
  kubeConfig: {_quoted(str(places.kubeconfig))}
commonConfig:
  clusterDomain: {_quoted(cluster.cluster_domain)}
  serviceCIDR: {_quoted(cluster.service_cidr)}
  podCIDR: {_quoted(cluster.pod_cidr)}
  meshCIDR: {_quoted(cluster.mesh_cidr)}
  stateDir: {_quoted(str(places.state_dir))}
modules:
  edgeTunnel:
    relayNodes:{relays or " []"}
"""
    return File(places.config, text)


def _quoted(text: str) -> str:
    """A YAML scalar that stays text, whatever the cloud sent."""
    import msgspec

    return msgspec.json.encode(text).decode()
