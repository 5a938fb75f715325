"""The program: configuration, command line, the roles, and the translation of Kubernetes objects for the packages.

Files in reading order: cli, agent_file, config, identity, snapshot, snapshot_file, plan/ (pure: objects to what dns,
proxy and tunnel take), agent, relay, status. The only place where a Service becomes names, NAT rules and routes.
"""
