"""One source each: what only that source knows. May import protocol, runtime and sidecars.core."""
