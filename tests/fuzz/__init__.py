"""What a peer, a disk or a user may give us to read, read as it never was meant: `make fuzz`.

    values.py     field values: lists, dates, directives, ranges, tags, preconditions, keys, structured fields
    documents.py  head files and config files
    doors.py      requests and responses as they come from a socket, in pieces of any size
    targets.py    all of them by name
    corpus/       inputs for each; `test_corpus.py` runs them as ordinary tests

A target takes bytes and raises nothing, whatever they are.
"""
