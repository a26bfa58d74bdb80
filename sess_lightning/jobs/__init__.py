"""Work over many photos, on one or many devices: it loses nothing when it is killed. Benchmarks and saved maps."""
