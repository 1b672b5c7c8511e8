"""What crosses a process boundary: commands, sessions, venue messages, ticks, records, events, units, codes.

May import nothing of ours. ``channels`` alone imports zmq.
"""
