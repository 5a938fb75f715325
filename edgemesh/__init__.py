"""The program: configuration, command line, the roles, and the translation of Kubernetes objects for the packages.

Takes: EdgeMesh's configuration file, a Kubernetes API or a directory of manifests. Gives: the command `edgemesh`.

Files in reading order: __main__, cli, cluster_cli (the command line); ranges, agent_file, config, identity (who this
node is); snapshot, snapshot_file (what is known); plan/ (pure: objects to what dns, proxy and tunnel take); agent
(follows, decides, applies), with rules, devices, saver (each keeps one thing as it should be) and agent_socket, report,
status (how it stands, and how that is shown); address, names, files (what several say and do), authority (the cluster's
CA), proof (that a node's key is its own), token, join/ (how a machine becomes a node), renewal (of its certificate),
nodes (an administrator's commands); cluster (an API as the source), with vetting (what of it is believed), publish and
lease (what a node writes there); relay (the relay's role); cloud/ (the cloud's).

Invariants: only here does a Service become names, NAT rules and routes; a node's key from an API counts only with its
proof; an agent that knows nothing touches nothing; its end takes nothing down.
"""
