"""Serf's RPC: how an operator, or a program beside it, talks to an agent."""
