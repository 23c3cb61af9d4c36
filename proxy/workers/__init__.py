"""Several processes on one port and one spool: one of them keeps the spool, the others ask it.

supervisor  starts them, and starts the dead again
seat        what each inherits: listening sockets, a way to the others, memory that all share
office      who keeps the spool: each tries when there is nobody
link        messages and open files from one process to another
words       what is said
desk        the keeper's side of a link
following   the other side: the cache, at a distance
ground      what is known of the spool without asking
bodies      descriptors that the keeper has handed over
mirrored    bodies that the keeper fetches, read from its files
durable     a lease that outlives the keeper it came from
"""
