"""What Kubernetes' controllers compute, as pure functions.

Files in reading order: slices (EndpointSlices from selectors and pods), placement (what to write for them to an API),
addresses (cluster IPs), nodes (ranges, mesh addresses, readiness).
"""
