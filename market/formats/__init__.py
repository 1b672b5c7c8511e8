"""Readers of recorded market data, one module a format. May import what market may."""
