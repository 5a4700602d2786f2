"""The wire's bench measures what it says: real encodings, in every envelope."""

from __future__ import annotations

import pytest

from experiments import bench_wire


def test_each_carrier_in_each_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_wire, "SPAN_S", 1e-6)
    found = bench_wire.measure()
    assert len(found) == 9
    assert (found.encode_us > 0).all()
    assert (found.decode_us > 0).all()
    sizes = found.set_index(["what", "envelope"])["bytes"]
    for what in found.what.unique():
        assert sizes[what, "encrypted"] > sizes[what, "plain"] >= sizes[what, "compressed"]
    assert sizes["9 alives in a packet", "encrypted"] < 1400
