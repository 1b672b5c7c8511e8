"""What every process needs to run: configuration files, clock, logs, signals, histograms, metrics, health, fail points.

May import protocol.
"""
