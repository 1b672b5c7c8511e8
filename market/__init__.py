"""Market data: instruments, the last-value table, recordings and their replay, the feed.

May import protocol and runtime. The engine imports ``market.table`` only, so that module imports nothing of
this room but its errors.
"""
