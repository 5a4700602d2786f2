"""What drives the protocol: the simulated world (``sim``), and the real one."""
