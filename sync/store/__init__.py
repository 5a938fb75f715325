"""Objects and their revisions in one SQLite file: what is acknowledged is on disk, and watches miss nothing.

Takes: a path; writes as functions from an object's newest state to its next. Gives: objects by key, lists (newest or
as of a revision), watches. It knows nothing of Kubernetes but that objects have a resource, a namespace and a name.

Files in reading order: entry (the types), state (the objects at one revision, in order), history (the last events,
for watches and for lists of the past), watch (who is told what), log (the file; blocking, for a thread), commit (the
turns of that thread), compaction (what is forgotten, and when), store (the face).

Invariants:
- One counter for all objects. An empty store is at revision 1, as etcd is, so the first write is 2. A revision is
  given once: one whose commit failed is left out, and a gap means nothing.
- What `get`, `list` and a watch show is durable. `heads` and the argument of a change are the newest state, durable
  or not; if the commit before it fails, a write fails too.
- Every event after `compacted` is in memory and in the file; of what is older, the file has the living objects only.
- Within a batch (the writes of one commit) all is seen at once: state first, then watches, then the writers.
"""

from sync.store.entry import Ahead, Change, Closed, Entry, Event, Expired, Key, Page, StoreFault
from sync.store.store import Status, Store
from sync.store.watch import Watch

__all__ = [
    "Ahead",
    "Change",
    "Closed",
    "Entry",
    "Event",
    "Expired",
    "Key",
    "Page",
    "Status",
    "Store",
    "StoreFault",
    "Watch",
]
