"""Pure functions from objects to what the packages take: records (dns), services (proxy), peers (tunnel)."""
