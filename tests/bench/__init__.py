"""Figures that depend on the machine, so no tests: `make bench` prints them beside what they should be."""
