"""Rules of leases that are the same for every provider."""
