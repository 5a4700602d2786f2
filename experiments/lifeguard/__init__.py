"""E5: what do Lifeguard's parts buy when processes are slow, and what do they cost?

A slow process misses acks, blames others for it, and is blamed itself. Lifeguard lets a member
doubt itself (LHA-Probe), lets suspicions wait for confirmation (LHA-Suspicion) and tells a
suspect of its suspicion at once (Buddy). Here members block, in lock step, as in the Lifeguard
paper: once, to see how fast that is detected (*threshold*), and again and again, to see who is
called dead that is not (*interval*). Each part stands beside the paper's own tables (spec
experiments.md, 4.2 and E5).
"""

from experiments.lifeguard.grid import cells, seed_key
from experiments.lifeguard.judgement import table, tables, verdicts
from experiments.lifeguard.pictures import figure, figures
from experiments.lifeguard.study import Params, run

__all__ = ["Params", "cells", "figure", "figures", "run", "seed_key", "table", "tables", "verdicts"]
