"""A Serf agent's JSON configuration as the source of a simulation's settings.

The file that runs in production says which profile the agents use, what their tags are (and
so how large their metadata), whether packets are encrypted, how they reconnect, and how long a
farewell may take. It is read as the agent reads it (``backends.serf_config``); keys that do not
bear on membership have no effect on a simulation.
"""

from __future__ import annotations

from msgspec import Struct

from backends.serf_config import check, encode_tags, merge, protocol, read, tags_of
from swimsim.config import Config
from swimsim.terms import Micros


class SerfSettings(Struct, frozen=True):
    """What a Serf agent's configuration means for membership."""

    config: Config
    meta: bytes  # the encoded tags
    leave_timeout: Micros


def parse(text: str) -> SerfSettings:
    """The settings in a configuration file's text; raises ``SerfConfigError``."""
    settings = merge([read(text)])
    check(settings)
    config = protocol(settings)
    return SerfSettings(
        config,
        encode_tags(tags_of(settings)),
        config.broadcast_timeout,
    )
