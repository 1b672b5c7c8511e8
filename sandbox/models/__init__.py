"""Replaceable models of the simulated venue: fees first. May import protocol."""
