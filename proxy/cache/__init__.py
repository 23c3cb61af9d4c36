"""From a request to a lease on its bytes: what is stored, what is arriving, or what only passes."""
