"""The deployable process around a runtime."""
