"""Measured speed: open-loop load, HDR histograms, and the physical floor through the same generator in the same run."""
