"""A Kubernetes API over the store: objects as JSON, requests and answers as Kubernetes' own.

Files in reading order: status (what a refusal looks like).
"""
