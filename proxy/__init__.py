"""The service proxy: connections to a service's address reach one of its endpoints, by the kernel's NAT.

Takes: service ports with their endpoints (`proxy.service`).
Gives: the nftables table `edgemesh` and clean conntrack entries; never another table.

Files in reading order: service, layout, change, nft, conntrack, proxy.
"""
