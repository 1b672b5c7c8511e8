"""The journal: segment format, writer, reader, recovery, and the one projection of events into rows.

May import protocol only. Rule: what a commit returned stays, in order, or the start stops and names the place.
"""
