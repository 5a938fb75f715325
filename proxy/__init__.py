"""The service proxy: connections to a service's address reach one of its endpoints, by the kernel's NAT.

Takes: service ports with their endpoints (`proxy.service`).
Gives: the nftables table `edgemesh` and clean conntrack entries; never another table.

Files in reading order: service, address, expression (what rules are made of), layout (what stands in the table),
change (the operations that bring it there), netlink, nft and conntrack (the kernel), proxy (the face).

Invariants: no process is started and no library loaded; a change is one transaction; whatever happens to this
process, what is in the kernel goes on serving; packets of established connections meet one rule.
"""
