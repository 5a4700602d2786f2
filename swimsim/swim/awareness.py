"""Local health: how much to trust one's own eyes (Lifeguard IV-A; spec memberlist.md, 6.7).

A node that misses acks may be the slow one itself. It keeps a score, 0 when all is well: a
probe that is answered lowers it, a failed probe, a helper's missing nack or a suspicion of
itself raises it. The score stretches the probe interval (and in the paper the probe timeout),
so a sick node accuses others less often.
"""

from __future__ import annotations

from swimsim.config import Config
from swimsim.effects import Effect, Emit, HealthChanged
from swimsim.inputs import HealthChange


def step(score: int, input: HealthChange, config: Config) -> tuple[int, tuple[Effect, ...]]:
    """The score after this news, kept within ``[0, awareness_max]``; 0 without ``lha_probe``."""
    if not config.lha_probe:
        return score, ()
    changed = min(max(0, score + input.delta), config.awareness_max)
    if changed == score:
        return score, ()
    return changed, (Emit(HealthChanged(changed)),)
