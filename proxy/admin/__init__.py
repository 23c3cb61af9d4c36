"""The admin listener: health, metrics, status.  It stands on an address of its own, loopback by default."""
