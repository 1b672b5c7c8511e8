"""What every gateway shares: the venue contract, the one durable log, the session with the engine, the loop."""
