"""`edgemesh demo`: a call by name between two sites behind NAT, and what happens when things break.

Files in reading order: record (what was shown), screen (what a person sees), stage (one run's bed, and how it waits),
come_up (joining, the first call), scenes (calls), moving (bytes during a fault), api_faults (the API away), faults
(all of them, in order), kept (logs, and beds that stay), run (all of it), __main__ (the command).

A step is ok only when it was seen: by the client's own bytes, by conntrack, by `wg show`, or by `edgemesh status`.
"""
