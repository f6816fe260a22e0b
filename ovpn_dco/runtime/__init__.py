"""Between a configuration and the protocol on one side, the system on the other."""
