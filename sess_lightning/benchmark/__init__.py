"""Benchmarks that reproduce the paper's tables and ablations; each is a command, `sess-lightning benchmark NAME`."""
