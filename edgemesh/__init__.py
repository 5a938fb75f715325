"""The program: configuration, command line, the roles, and the translation of Kubernetes objects for the packages.

Takes: EdgeMesh's configuration file, a directory of manifests or an API. Gives: the command `edgemesh`.

Files in reading order: __main__, cli, cluster_cli (the command line); agent_file, config, identity (who this node is);
snapshot, snapshot_file (what is known); plan/ (pure: objects to what dns, proxy and tunnel take); agent (follows,
decides, applies), with rules, devices, saver (each keeps one thing as it should be) and agent_socket, report, status
(how it stands, and how that is shown); relay (the relay's role); names, files (what several say and do), authority (the
cluster's CA), proof (that a node's key is its own), token, join/ (how a machine becomes a node), renewal (of its
certificate), nodes (an administrator's commands).

Invariants: only here does a Service become names, NAT rules and routes; an agent that knows nothing touches nothing;
its end takes nothing down.
"""
