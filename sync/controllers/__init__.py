"""What Kubernetes' controllers compute, as pure functions: slices (EndpointSlices from selectors and pods), addresses
(cluster IPs)."""
