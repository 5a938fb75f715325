"""Sources of objects: a directory of manifests, followed as its files change, and a Kubernetes API, watched.

Takes: a directory, or a kubeconfig. Gives: changes of typed objects, the same from both; and an API's verbs on trio.

Files in reading order: document (text to data, with lines), manifest (a file to objects), inotify (which files
changed), manifests (the directory); kubeconfig (where an API is, and as whom), credentials (what to say where an API
does not take them), transport (a connection), connection (the API's verbs), wire (its bytes to objects), reflector
(list and watch of a kind, without I/O), watch (a reflector run), objects (all kinds).

Invariants: a source that goes away, or gives rubbish, takes nothing away; what was wrong is said once, with its cure.
"""
