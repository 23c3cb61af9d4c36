"""One origin body on its way into the spool, and everyone who follows it.

fill       the whole of it
progress   how far it has come, and who waits for more
window     what is kept of a body that is not stored, or not any more
"""
