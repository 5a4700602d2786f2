"""E12: do results extrapolate from a thousand members to a hundred thousand?

The same crash, a crash of 1 % of all members at once, and the same piece of news, in groups of a
thousand to a hundred thousand members that each hold the full list; and what they cost in time and
memory. The formulas are those of E1 and E3: suspicion comes as fast as ever, detection grows with
the logarithm in its timeout, news with that of the group (spec experiments.md, E12; F1 to F3, F9).

Nodes hold one table together and own what differs (ARCHITECTURE.md, "Values"), where a plain
simulator would hold n tables of n members. One cell gives every node a table of its own and
compares the two histories; they must be one.

Reduced, for time. A run that only waits for the first suspicion is short, so these are many, and
those that wait until everybody knows are few. 1 % of the members crash up to 10,000, where 100
deaths are a million verdicts already. Streams lose nothing, so that with loss there are no false
suspicions, whose gossip would drown a large group. The event is a metadata update, with probing
off, as in E3.
"""

from experiments.scale.findings import table, tables, verdicts
from experiments.scale.grid import cells, seed_key
from experiments.scale.pictures import figure
from experiments.scale.study import Params, run

__all__ = ["Params", "cells", "figure", "run", "seed_key", "table", "tables", "verdicts"]
