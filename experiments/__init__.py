"""Questions asked of the simulated world."""
