"""The sidecars: one loop that carries deliveries of a message source to the engine and its outcomes back.

``core`` holds the loop and the source contract, ``sources`` one file per source. May import protocol and runtime.
"""
