"""What every process needs to run: configuration files, clock, logs, signals, metrics, fail points.

May import protocol.
"""
