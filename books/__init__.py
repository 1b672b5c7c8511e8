"""The books: the store contract, SQLite, the books writer and the read-only REST API.

May import protocol, runtime, journal. Rule: the store is a projection of the journal; dropped and rebuilt, it is
the same, and rows and watermark change in one transaction.
"""
