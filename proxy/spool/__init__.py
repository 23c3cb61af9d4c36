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
    intake     objects on their way in                  filling       one of them
    partials   those that broke off                     folder        paths, files, who owns them
    ban_file   what is written down of those            seal          by which rot of such lines is found
    leaving    objects on their way out                 removals      what the power's failure could bring back
    bodies     the open files                           body          one of them
    invalidation  of a target, or a credential          guard         reads bodies that others have written to
    checksum   of a body, by which rot is found             rereading     a body again, to compare them
    scrub      does so with all of them, behind everything  background    the thread for such work
    inspection  the folder, for another process         index_view    the index, for one
    verification  of all that lies there, by one
    admission  makes room for what arrives              room          what may still be written
    eviction   who goes when it may not                 database      the index' file
    condition  what is wrong with the disk              upkeep        makes folder, index and books agree again
    takeover   the start                                calls         the system calls on all these files

The head is written before the first byte of the body; a body moves to `objects/` when it is whole, and the
index learns of it last.

After a kill, at any instant, everything that was complete is found, and nothing else.  After the power has failed,
every complete answer is right bytes of something that is neither purged nor invalidated by an unsafe request that
was answered; what was stored last may be lost, and what was validated or used last may be forgotten.  For that these
are synced, and no more: a body, before it gets its place; the bans, before a purge is acknowledged; folders, before
a ban is dropped or an unsafe request answered, where they have lost something of that target since they were synced;
and the folder itself once a start.  The index is a SQLite log that nobody waits for: it is synced when it is moved
into its database, and so before a ban is dropped.
"""
