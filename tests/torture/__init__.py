"""Machines that injure the service and watch what its clients get: `make torture`, or `python -m tests.torture`.

    items.py      what there is to fetch: content that is a function of path, generation and offset
    truth.py      what the origin has really given, and whether an answer is true to it
    origin.py     the origin, and all that it can do wrong
    injuries.py   the faults of one response, at any byte of its wire form
    adapter.py    `range-adapter serve`, to be killed and started again
    client.py     clients that ask for everything in every way, and judge each answer by itself
    kill.py       SIGKILL at random instants
    faults.py     an origin that breaks off, stalls, lies and changes
    disk.py       a disk that fills, takes no more names, and loses the spool's folder
    soak.py       many requests, and what is left of them in descriptors, memory and disk
    report.py     tallies, progress and the table at the end

What is judged never depends on how fast anything is, but for hangs: a request has an end, in seconds.
"""
