"""The origins of a config."""

from contextlib import AsyncExitStack
from functools import partial

from proxy.config import Config
from proxy.config.model import Origin as OriginSection
from proxy.errors import ConnectTimeout, OriginDown
from proxy.incidents import Incidents
from proxy.origin import Origin


def configured(
    config: Config, incidents: Incidents, parts: AsyncExitStack, *, workers: int = 1
) -> dict[str, Origin]:
    """By name; each of so many `workers` has its share of the connections."""
    origins = {}
    for name, section in config.origins.items():
        origins[name] = _origin(name, section, incidents, max(1, section.max_connections // workers))
        parts.push_async_callback(origins[name].close)
    return origins


def _origin(name: str, section: OriginSection, incidents: Incidents, connections: int) -> Origin:
    return Origin(
        name,
        str(section.url),
        connect=section.timeouts.connect,
        first_byte=section.timeouts.first_byte,
        idle=section.timeouts.idle,
        resume=section.timeouts.resume,
        queue=section.timeouts.queue,
        max_connections=connections,
        max_fills=section.fills,
        fills_per_client=section.client_fills,
        max_waiting=section.max_waiting,
        on_recovery=partial(incidents.over, name, OriginDown.reason, ConnectTimeout.reason),
    )
