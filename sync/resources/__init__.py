"""The kinds of object the project reads, as types; from plain data to them, with every fault named.

Files in reading order: kinds (the types), fields (what else Kubernetes has in them), shape (plain data against a
type), validate (what types can't say), decode (a whole object).
"""
