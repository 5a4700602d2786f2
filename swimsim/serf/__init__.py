"""Serf, on top of SWIM: what do the living say, and what becomes of the dead?"""
