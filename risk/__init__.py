"""Risk in two tiers: ``gate`` checks every order in microseconds, ``portfolio`` whole accounts. May import protocol."""
