"""The cloud role: a Kubernetes API where there is none, the way in for nodes, and what the mesh needs of a cluster.

Takes: a state directory, and a kubeconfig where there is a cluster already. Gives: `https://…:6443` (the embedded
API), `https://…:10002` (joining), and objects kept as they should be.

Two threads: asyncio has the servers, trio the controllers, which are clients of the API like any other, the same on a
real cluster. If one of them fails, the process ends and says why.

Files in reading order: options; state (keys and certificates on disk); setup (objects that must be there: crds/),
work (keys to be looked at, with retries), endpoints (EndpointSlices), nodes (ranges, addresses, readiness), rights (a
Role a node on a real cluster), housekeeping (the revoked, tokens that ended), controllers (all of them); thread,
joining (the HTTPS endpoint), role (the two threads).
"""
