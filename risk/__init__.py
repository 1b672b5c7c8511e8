"""Risk in two tiers: ``gate`` checks every order in microseconds. May import protocol."""
