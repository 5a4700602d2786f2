"""Tags in a member's metadata, read once for each (spec serf.md, 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from swimsim.wire import serf


@lru_cache(maxsize=4096)
def tags_of(meta: bytes) -> Mapping[str, str]:
    """The tags in a member's metadata, in their order there; those before a mistake, if any."""
    return MappingProxyType(serf.decode_tags(meta)[0])
