"""The admin listener: health, metrics, status, purges.  It stands on an address of its own, loopback by default."""
