"""Sources of objects: manifests (a directory, followed as its files change)."""
