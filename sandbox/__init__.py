"""The simulated venue: order book, matching, queue and fee models, many instruments behind one exchange.

May import protocol and market. Knows no clock, I/O, logging, randomness or float: ticks and orders come in,
fills and reports come out, and the same input gives the same output.
"""
