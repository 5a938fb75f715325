"""WireGuard's protocol (whitepaper, revision of 2020-06-01): bytes and `now` in; bytes, events, deadline out.

No I/O, no clock, no threads here; `tunnel.engine` is the shell around it.

Files in reading order: messages, noise, cookie, replay, keypair, allowedips, peer, device.
"""
