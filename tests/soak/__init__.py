"""Runs at length: what the tests do in a slice, until somebody stops it."""
