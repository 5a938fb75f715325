"""Sources of objects: manifests (a directory, followed as its files change).

Files in reading order: document (text to data, with lines), manifest (a file to objects), inotify (which files
changed), manifests (the directory).
"""
