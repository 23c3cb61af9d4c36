"""range-adapter: correct byte ranges for a legacy HTTP origin.

Read it from the pure to the wired; each part imports only what stands above it:

    errors.py      whose fault (client, origin, spool, ours) and which status
    semantics/     RFC 9110, 9111, 9211, 9213, 9530: pure functions and frozen values; no I/O, no clock
    patience.py    how long a peer may take nothing
    incidents.py   one log line per incident, not per request
    slots.py       places for fetches from an origin, shared out fairly among clients
    exact.py       aiohttp's client, made to send exactly what it is told
    health.py      whether an origin can be connected to
    connector.py   aiohttp's connector, held to our limits; retries on other addresses
    origin.py      the client side: one origin server, exact targets, our errors
    spool/         objects on the local disk and their index
    fill/          one fetch of one object into the spool, and those who follow it
    cache/         request -> Lease: reuse what is stored, join a fill, start one, compare, or pass
    workers/       several processes on one port and one spool: one keeps it, the others ask that one
    server/        request -> lease -> plan -> delivery; and the relay for all that is not adapted
    admin/         health, metrics, status, purges
    demo/          a legacy origin with a video, the adapter before it, a page that shows both
    commands/      what one types: the service, checks of a config, orders for it, a look at its spool
    cli.py         the command that they belong to

`config/`, `routes.py` and `explain.py` stand beside them, and under the last `answers.py` (what becomes of an
origin's answer) and `facts.py` (why, in sentences).  config imports nothing of ours and is read only by `commands`,
`routes`, `explain`, `demo` and what wires the server (`app`, `keeping`, `listening`, `origins`, `process`); these
hand plain values down.  `server/app.py` puts everything together, `admin` too, and so is the one that looks ahead.
"""

__version__ = "0.1.0"
