"""What all sources share: the contract, the engine session, the loop. May import protocol and runtime."""
