"""E11: is the simulated world a faithful model of the real one?

The same protocol code runs in real processes, one for each member, on loopback, and under SimPy,
with the same configuration: timers scaled down, so that a crash is over in seconds. One member
after the other is killed with SIGKILL, its death becomes known, it is started again and the group
settles. Beforehand a quiet time is measured: the round trips of probes and the packets that each
member sends; afterwards user events are told, one after the other. The simulator takes its latency
from those round trips and nothing else; then the times of crashes and events lie side by side
(spec experiments.md, E11, first version: no loss, no pauses). Every packet that a member sends is
compared with the bytes that the simulator would count for it.

A process that does not get the processor when it wants it is late, and the machine's other work
is in the results. So the processors' idle time is taken down each second; where less than 30 %
of it was left, a margin that is not kept is explained by that, and the run says nothing about
the model: repeat it on a machine with nothing else to do.

A member is a process of ``experiments.member``.
"""

from experiments.calibration.cell import Params, cells, seed_key
from experiments.calibration.judgement import figure, table, verdicts
from experiments.calibration.study import run

ALONE = True
"""Runs must not share the machine with each other."""

__all__ = ["ALONE", "Params", "cells", "figure", "run", "seed_key", "table", "verdicts"]
