"""The light gate: pure checks over the exposure book. May import protocol.

Knows no clock, I/O, logging, randomness or float: time, reference and parameters are given.
"""
