"""Tells people when something is wrong: ``wojak alerts``, a process of its own that reads and changes nothing.

What is wrong: ``rules`` over what ``look`` saw; when to say it: ``judge``; to whom and how often: ``lanes``; how:
``receivers``.
"""
