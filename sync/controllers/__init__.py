"""What Kubernetes' controllers compute, as pure functions.

Files in reading order: slices (EndpointSlices from selectors and pods), addresses (cluster IPs).
"""
