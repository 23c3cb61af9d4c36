"""Objects on the local disk: whole bodies, their metadata beside them, and an index to find them by.

    <spool>/filling/<generation>.head, .body    what is still arriving
    <spool>/objects/ab/<generation>.head, .body what is complete
    <spool>/index.sqlite                        derived from the heads: losing it costs refetches, nothing else
    <spool>/bans                                what is purged and still to be swept away
    <spool>/scrub                               how far the search for rot has come
    <spool>/lock, secret, orderly               whose the folder is, its secret, and how its last owner left it

    spool      the whole of it, as the cache sees it
    catalogue  what is stored, as the loop sees it      shelf, index  the same on the disk, on a thread of its own
    purges     what may not be found any more           bans          which entries that is about
    filling    one object on its way in                 folder        paths, files, who owns them
    bodies     the open files                           body          one of them
    checksum   of a body, by which rot is found             rereading     a body again, to compare them
    scrub      does so with all of them, behind everything  background    the thread for such work
    inspection  the folder, for another process         index_view    the index, for one
    verification  of all that lies there, by one
    admission  makes room for what arrives              room          what may still be written
    eviction   who goes when it may not

The head is written before the first byte of the body; a body moves to `objects/` when it is whole, and the
index learns of it last.
"""
