"""Joining: how a machine becomes a node of the cluster, stays one, and ceases to be one.

Takes: a token and a URL (the node), requests and the API's objects (the cloud). Gives: the node's key, certificate,
kubeconfig, configuration and units; the cloud's records, and the list of the revoked.

Files in reading order: messages (what goes over the wire), csr (the node's request for a certificate), objects (paths
of the API's objects), record (what the cloud keeps of a node: a ConfigMap a name), limits (how often who may ask),
endpoint (the cloud's side: a request to an answer), revocation (a deleted record to the list of the revoked);
trust (how the node knows the cloud), files_of_node, units (what a node has on its disk), join (the node's side).

Invariants: a name belongs to the key that had it first, until its record is deleted; a certificate is in its record
before it is given out, so that all that were can be revoked; what is asked twice is answered alike; a secret is in no
log and in no error.
"""
