"""``swimsim replay``: verify a node's journal, look into its past, ask it why.

The files of one recording belong together, whatever the order in which they are given: they are
put in order by what stands in them. Each recording is replayed once, and told of by itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import click
from msgspec import Struct, field, to_builtins
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backends.durations import duration
from swimsim import journal, story
from swimsim.journal import Cut, End, Header, JournalError, Record, Replayed, Snapshot
from swimsim.member import Member
from swimsim.node import Node
from swimsim.story import Entry, standing
from swimsim.terms import SECOND, Micros, NodeId

BAD_INPUT = 2
DIFFERENCE = 1
MANY = 50  # members in health that are listed one by one


class Tape(Struct, frozen=True):
    """One file, and what stands at its beginning."""

    path: Path
    data: bytes
    header: Header
    first: Snapshot | None  # None: nothing was recorded, or it was cut at once


class Recording(Struct, frozen=True):
    """The files that one recorder wrote, in order."""

    node: str
    tapes: tuple[Tape, ...]


class Missing(Struct, frozen=True):
    """Inputs that the files do not hold."""

    number: int  # of the first one
    inputs: int
    after_s: float  # the last time before them
    why: str


class Report(Struct):
    """What a replay of one recording came to."""

    first: Replayed | None = None
    last: Replayed | None = None  # at or before the time that was asked for
    now: Micros = 0  # time of the last of all
    number: int = 0  # of the last of all
    recorded: int = 0  # how many inputs the recorder saw
    kinds: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    missing: list[Missing] = []
    cuts: list[str] = []  # where files end that were not ended
    raised: list[Replayed] = []
    difference: Replayed | None = None
    entries: list[Entry] = []  # the story that was asked for


def _refuse(message: str) -> NoReturn:
    click.echo(f"swimsim: {message}", err=True)
    sys.exit(BAD_INPUT)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--at", "time", help="Show the state then: seconds as shown, or such as 1m30s.")
@click.option("--why", "member", help="Show what led to this member's status (as of --at).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(files: tuple[Path, ...], time: str | None, member: str | None, as_json: bool) -> None:
    """Live again the life that the journals FILES recorded, and compare.

    Exit status 1: this swimsim does not do what was recorded; 2: the files are not journals.
    """
    until = None if time is None else _instant(time)
    recordings = _recordings([_open(path) for path in files])
    told = [(each, _examine(each, until, member)) for each in recordings]
    reports = [report for _, report in told]
    if member is not None and not any(map(_knows, reports)):
        _refuse(f"--why: there is no member {member!r} in these journals")
    begins = [report.first.now for report in reports if report.first is not None]
    if until is not None and begins and until < min(begins):
        _refuse(f"--at: nothing is recorded before {story.at(min(begins))}")
    if as_json:
        found = [_as_json(*each, member=member, at=until is not None) for each in told]
        click.echo(json.dumps(found, indent=2))
    else:
        for each in told:
            _print(*each, member=member, at=until is not None)
    if any(report.difference is not None for report in reports):
        sys.exit(DIFFERENCE)


def _instant(text: str) -> Micros:
    """Seconds as they are shown, or a duration."""
    if re.fullmatch(r"\d+(\.\d+)?( ?s)?", text, re.ASCII):
        return round(Fraction(text.rstrip(" s")) * SECOND)
    try:
        return duration(text)
    except ValueError as error:
        _refuse(f"--at: {error}")


# --- files -----------------------------------------------------------------------------------


def _open(path: Path) -> Tape:
    try:
        data = path.read_bytes()
    except OSError as error:
        _refuse(f"{path}: {error.strerror}")
    header, first = Header(""), None
    try:
        for _, record in journal.read(data):
            if isinstance(record, Header):
                header = record
            else:
                first = record if isinstance(record, Snapshot) else None
                break
    except JournalError as error:
        _refuse(f"{path}: {error}")
    return Tape(path, data, header, first)


def _recordings(tapes: list[Tape]) -> list[Recording]:
    """The tapes by recording, in order; those of one name and time that overlap are not one."""
    found: list[Recording] = []
    for tape in sorted(tapes, key=_order):
        name = tape.first.node.name if tape.first is not None else ""
        latest = found[-1] if found else None
        if latest is not None and latest.node == name and _follows(tape, latest.tapes[-1]):
            found[-1] = Recording(name, (*latest.tapes, tape))
        else:
            found.append(Recording(name, (tape,)))
    return found


def _order(tape: Tape) -> tuple[str, str, int]:
    name = tape.first.node.name if tape.first is not None else ""
    return name, tape.header.began, tape.header.piece


def _follows(tape: Tape, before: Tape) -> bool:
    return tape.header.began == before.header.began and tape.header.piece > before.header.piece


def _records(recording: Recording, report: Report) -> Iterator[Record | Cut]:
    """Every record of these files, one after the other."""
    for tape in recording.tapes:
        last: Record | Cut | None = None
        try:
            for _, last in journal.read(tape.data):
                yield last
        except JournalError as error:
            _refuse(f"{tape.path}: {error}")
        if isinstance(last, End):
            report.recorded = last.number
        elif isinstance(last, Cut):
            end = f"cut at byte {last.offset}, in the middle of a record"
            report.cuts.append(f"{tape.path} is {end}")
        else:
            report.cuts.append(f"{tape.path} has no end: its node still runs, or was killed")


# --- the replay ------------------------------------------------------------------------------


def _examine(recording: Recording, until: Micros | None, member: str | None) -> Report:
    """Replay it all; the story, and the last state, are those of ``until``."""
    report = Report()
    steps = _noted(recording, report, until)
    try:
        if member is not None:
            past = (step for step in steps if until is None or step.now <= until)
            report.entries = list(story.story(past, NodeId(member)))
        else:
            for _ in steps:
                pass
    except ValueError as error:
        _refuse(f"{recording.tapes[0].path}: {error}")
    if report.first is not None and report.recorded > report.number:
        _miss(report, report.recorded + 1, "at the end")
    return report


def _noted(recording: Recording, report: Report, until: Micros | None) -> Iterator[Replayed]:
    """The steps of a replay, noted in the report as they come."""
    for step in journal.replay(_records(recording, report)):
        if report.first is None:
            report.first = step
        elif step.number > report.number + 1:
            is_file = step.resumed == journal.ROTATION
            _miss(report, step.number, "in a file that is not here" if is_file else step.resumed)
        report.lives += step.resumed in (journal.START, journal.LIFE)
        report.kinds[type(step.input).__name__] += 1
        if step.raised:
            report.raised.append(step)
        if not step.agrees and report.difference is None:
            report.difference = step
        if until is None or step.now <= until:
            report.last = step
        report.now, report.number = step.now, step.number
        yield step


def _miss(report: Report, number: int, why: str) -> None:
    """What lies between the last input that was replayed and this one is missing."""
    first = report.number + 1
    report.missing.append(Missing(first, number - first, report.now / SECOND, why))


def _knows(report: Report) -> bool:
    return any(entry.status != "unknown" for entry in report.entries)


# --- for people ------------------------------------------------------------------------------


def _print(recording: Recording, report: Report, *, member: str | None, at: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if member is not None:
        _print_story(recording, report, NodeId(member))
    elif at and report.last is not None:
        _print_state(console, report.last)
    else:
        _print_summary(console, recording, report)
    _print_difference(report)


def _say(text: str) -> None:
    click.echo(plain(text))


def plain(text: str) -> str:
    """The text with whatever a terminal might obey, or could not show, spelt out.

    A member's name may be any bytes, and may mean harm.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _print_summary(console: Console, recording: Recording, report: Report) -> None:
    header = recording.tapes[0].header
    began = f", began {header.began}" if header.began else ""
    _say(f"{recording.node or 'nobody'}: recorded by swimsim {header.swimsim}{began}")
    for tape in recording.tapes:
        _say(f"  {tape.path}, {len(tape.data):,} bytes")
    if report.first is None:
        _say("no input was recorded")
    else:
        total, first = report.kinds.total(), report.first
        _say(
            f"{total:,} inputs, numbers {first.number} to {report.number}, "
            f"from {story.at(first.now)} to {story.at(report.now)}; lives of the node: "
            f"{report.lives or 1}"
        )
        table = Table("input", "how often")
        table.columns[1].justify = "right"
        for kind, count in sorted(report.kinds.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(kind, f"{count:,}")
        console.print(table)
    for gap in report.missing:
        _say(f"missing: {gap.inputs:,} inputs after {gap.after_s:.6f} s: {gap.why}")
    for cut in report.cuts:
        _say(cut)
    for step in report.raised:
        _say(f"input {step.number} at {story.at(step.now)}: step raises {step.raised}")
    if report.first is not None and report.difference is None:
        _say("replayed: no difference")


def _print_difference(report: Report) -> None:
    step = report.difference
    if step is None:
        return
    _say(
        f"replayed: input {step.number} at {story.at(step.now)} is the first difference: "
        f"{step.differs}"
    )
    _say(f"  the input: {step.input}")
    for effect in step.effects:
        _say(f"  asks now: {effect}")
    if not step.effects:
        _say(f"  now it raises {step.raised}" if step.raised else "  asks now: nothing")


def _print_story(recording: Recording, report: Report, member: NodeId) -> None:
    """Why a node believes what it believes; each line is one input."""
    _say(f"what {recording.node} knows of {member}")
    for entry in report.entries:
        when = f"{story.at(entry.now):>16}  input {entry.number:<7} own health {entry.health}"
        _say(f"{when}  {entry.arrived}")
        for change in entry.changed:
            _say(f"{'':>18}-> {change}")
    if report.last is not None:
        node = report.last.after
        _say(
            f"{story.at(report.last.now):>16}  {member} is {standing(node, member)}; "
            f"own health {node.health}"
        )


def _print_state(console: Console, step: Replayed) -> None:
    """All that matters of a node's state."""
    state = _state(step)
    _say(
        f"{state['node']} at {story.at(step.now)}, after input {step.number}: incarnation "
        f"{state['incarnation']}, health {state['health']} (0 is healthy)"
        f"{', leaving' if state['leaving'] else ''}"
    )
    members = state["members"]
    healthy = [row for row in members if row["status"] == "alive"]
    counts = Counter(row["status"] for row in members)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    table = Table(title=f"{len(members)} members: {told or 'none'}", title_justify="left")
    columns = ("member", "status", "incarnation", "address", "more")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in members[: len(members) - len(healthy) + MANY]:
        table.add_row(*(Text(plain(str(row[name]))) for name in columns))
    console.print(table)
    if len(healthy) > MANY:
        _say(f"and {len(healthy) - MANY} more that are alive")
    for title in ("round", "joining"):
        _say(f"{title}: {state[title] or 'none'}")
    for title in ("relays", "queue", "lost"):
        _say(f"{title}: {len(state[title]) or 'none'}")
        for line in state[title]:
            _say(f"  {line}")


# --- for both --------------------------------------------------------------------------------


def _state(step: Replayed) -> dict[str, Any]:
    """The state after an input; the living stand last."""
    node = step.after
    known, probe = node.membership, node.probe
    joining = node.upkeep.anti_entropy.joining
    return {
        "node": node.name,
        "number": step.number,
        "now_s": step.now / SECOND,
        "incarnation": known.incarnation,
        "health": node.health,
        "leaving": known.leaving,
        "members": [_row(node, member) for member in sorted(node.members, key=_rank)],
        "round": None if probe.round is None else _round(node),
        "joining": None if joining is None else str(joining),
        "relays": [f"{number}: {each}" for number, each in sorted(probe.relays.items())],
        "queue": [f"sent {each.transmits} times: {each.message}" for each in node.broadcasts.queue],
        "lost": [
            f"{name} at {each.address} since {story.at(each.since)}"
            for name, each in sorted(node.upkeep.reconnect.lost.items())
        ],
    }


def _rank(member: Member) -> tuple[int, str]:
    return member.status or 9, member.peer.name


def _row(node: Node, member: Member) -> dict[str, Any]:
    told = member.peer
    _, _, more = standing(node, told.name).partition(f"incarnation {member.incarnation}")
    return {
        "member": told.name,
        "status": member.status.name.lower(),
        "incarnation": member.incarnation,
        "address": str(told.address),
        "more": more.removeprefix(", "),
    }


def _round(node: Node) -> str:
    running = node.probe.round
    assert running is not None
    if running.direct:
        how = "pinged"
    else:
        how = f"helpers asked, {running.nacks_due} of {running.nack_count} nacks missing"
    return f"{running.seq_no} of {running.target}, until {story.at(running.deadline)}: {how}"


def _as_json(recording: Recording, report: Report, *, member: str | None, at: bool) -> Any:
    """The same for programs."""
    header, step = recording.tapes[0].header, report.difference
    found = {
        "node": recording.node,
        "swimsim": header.swimsim,
        "began": header.began,
        "files": [str(tape.path) for tape in recording.tapes],
        "inputs": report.kinds.total(),
        "first": None if report.first is None else report.first.number,
        "from_s": None if report.first is None else report.first.now / SECOND,
        "to_s": None if report.first is None else report.now / SECOND,
        "kinds": dict(sorted(report.kinds.items())),
        "lives": report.lives,
        "missing": to_builtins(report.missing),
        "cuts": report.cuts,
        "raised": [{**_step(each), "raised": each.raised} for each in report.raised],
        "difference": None if step is None else {
            **_step(step),
            "differs": step.differs,
            "effects": [str(effect) for effect in step.effects],
        },
    }  # fmt: skip
    if at and member is None:
        found["state"] = None if report.last is None else _state(report.last)
    if member is not None:
        found["story"] = [
            {**to_builtins(entry), "now_s": entry.now / SECOND} for entry in report.entries
        ]
        found["standing"] = (
            None if report.last is None else standing(report.last.after, NodeId(member))
        )
    return found


def _step(step: Replayed) -> dict[str, Any]:
    return {"number": step.number, "now_s": step.now / SECOND, "input": str(step.input)}
