"""Names that the cloud and its nodes agree on; imports nothing."""

import re

NODES = "edgemesh:nodes"
"""The group (O of the certificate) of all nodes."""
NODE_USER = "edgemesh:node:"
"""What a node's user name (CN of the certificate) begins with."""
NODE_NAME_MAX = 64 - len(NODE_USER)
"""Characters: a common name has 64 (RFC 5280, ub-common-name)."""
NODE_NAME_RULE = f"at most {NODE_NAME_MAX} of a-z, 0-9, '-' and '.', each part beginning and ending with a-z or 0-9"

SYSTEM_NAMESPACE = "edgemesh-system"
CLUSTER_CONFIG = "edgemesh"
"""ConfigMap: ca.crt, apiServer, join, relays, serviceCIDR, podCIDR, meshCIDR, clusterDomain."""
REVOKED_CONFIG = "edgemesh-revoked"
"""ConfigMap: crl (base64 of DER)."""
SIGNER = "edgemesh.kubeedge.io/node"
"""signerName of nodes' CertificateSigningRequests."""
NODE_LABEL = "edgemesh.kubeedge.io/node"
"""Label of objects that are kept of a node: its name."""

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def node_user(name: str) -> str:
    """A node's user name."""
    return NODE_USER + name


def is_node_name(name: str) -> bool:
    """Whether a node that joins may have this name."""
    return len(name) <= NODE_NAME_MAX and _NODE_NAME.fullmatch(name) is not None
