"""RFC 9110, 9111 and 9211 as pure functions over frozen values: no await, no open, no clock, no aiohttp."""
