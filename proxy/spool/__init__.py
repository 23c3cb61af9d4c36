"""Objects on the local disk: whole bodies, their metadata beside them, and an index to find them by.

    <spool>/filling/<generation>.head, .body    what is still arriving
    <spool>/objects/ab/<generation>.head, .body what is complete
    <spool>/index.sqlite                        derived from the heads: losing it costs refetches, nothing else

The head is written before the first byte of the body; a body moves to `objects/` when it is whole, and the
index learns of it last.
"""
