"""Portfolio risk: margin by scenarios, Greeks, stress, and the decision on a held order.

May import protocol, runtime, journal, market. Only ``book``, ``snapshot``, ``params`` and ``answer`` can be imported
without numpy; the engine's process imports none of this room.
"""
