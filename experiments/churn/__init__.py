"""E7: does news keep up when many members come, go and flap at once?

A thousand processes join one seed together; one in a hundred hears nothing for 20 s in every 40 s,
or loses four fifths of what it sends; half of a group dies in one instant; processes come and go
at random; and members publish updates faster and faster, until gossip cannot carry them
(formula F15). Rapid (ATC 2018) measured memberlist in such troubles (spec experiments.md, E7, 4.3).

To ask another question, change a cell: every parameter is in ``Params``.
"""

from experiments.churn.findings import table, tables, verdicts
from experiments.churn.grid import cells, seed_key
from experiments.churn.pictures import figure, figures
from experiments.churn.study import Params, run

__all__ = ["Params", "cells", "figure", "figures", "run", "seed_key", "table", "tables", "verdicts"]
