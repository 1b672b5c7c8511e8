"""The engine: order state table, decision core, dedup, recovery, the loop around them.

May import protocol, runtime, journal, market (the last-value table only) and risk.gate.
``core`` knows no clock, I/O, logging or randomness.
"""
