"""Benchmarks: each compares with a peer or a bound in the same run and says what it did not reach."""
