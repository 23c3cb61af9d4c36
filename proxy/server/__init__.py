"""Towards clients: one request in, one answer out."""
