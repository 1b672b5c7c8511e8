"""Journals written by releases, which every later release must read (DESIGN section 4)."""
