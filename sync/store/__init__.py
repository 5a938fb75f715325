"""Objects and their revisions in one SQLite file: what is acknowledged is on disk, and watches miss nothing.

Files: .
"""
