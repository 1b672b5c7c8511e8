"""Gateways to venues: ``venues.core`` is the one loop, log and contract; one file per venue, ``sandbox`` first.

May import protocol, runtime and sandbox.
"""
