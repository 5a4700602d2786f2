"""Flags as Go's programs take them, on top of click.

``-x v``, ``-x=v``, ``--x v`` and ``--x=v`` are the same; a switch takes its value after ``=`` only;
the first word that is no flag ends the flags. ``Command`` puts a command line into the one form
that needs no guessing, ``--x=v``, before click sees it, and says what is wrong in Go's words: the
error on standard error, the help on standard output, exit status 1 (spec serf.md, 5.1).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from backends.durations import duration

FAILED = 1
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
HELP = ("h", "help")


class FlagError(Exception):
    """The flags are not what the command takes."""


class MisuseError(Exception):
    """The words are not what the command takes; the text is said above its help."""


def flag(name: str, **settings: Any) -> Callable[[Any], Any]:
    """A flag with a value; ``multiple=True`` where it may be given again."""
    return click.option(f"--{name}", name.replace("-", "_"), **settings)


def switch(name: str, *, default: bool = False, **settings: Any) -> Callable[[Any], Any]:
    """A flag that is true when it is given, and may be given a value after ``=``."""
    return flag(name, type=bool, is_flag=False, default=default, **settings)


class Duration(click.ParamType[int]):
    """A duration as Go writes it, in nanoseconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read it."""
        try:
            return value if isinstance(value, int) else duration(value) * 1000
        except ValueError:
            self.fail("parse error", param, ctx)


class Integer(click.ParamType[int]):
    """A whole number."""

    name = "integer"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read it."""
        try:
            return int(value)
        except ValueError:
            self.fail("parse error", param, ctx)


class Command(click.Command):
    """A command that takes Go's flags. It returns the exit status, None being success."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.add_help_option = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the flags, and leave the words as they are."""
        flags, words = split(self, args)
        return super().parse_args(ctx, [*flags, "--", *words])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Run it, and exit."""
        given = sys.argv[1:] if args is None else list(args)
        name = settings.get("prog_name") or self.name
        try:
            with self.make_context(name, given) as context:
                sys.exit(self.invoke(context) or 0)
        except FlagError as error:
            click.echo(str(error), err=True)
            self._help(name)
        except click.BadParameter as error:
            flag_name = error.param.name if error.param else None
            assert flag_name is not None
            text = f"for flag -{flag_name.replace('_', '-')}: {error.message}"
            click.echo(f'invalid value "{_given(given, flag_name)}" {text}', err=True)
            self._help(name)
        except click.UsageError as error:  # words where none, or more, belong
            click.echo(error.format_message(), err=True)
            self._help(name)
        except MisuseError as error:
            click.echo(f"{error}\n" if str(error) else "", nl=bool(str(error)))
            self._help(name)

    def _help(self, name: str | None) -> NoReturn:
        click.echo(self.get_help(click.Context(self, info_name=name)))
        sys.exit(FAILED)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say it with one dash, as Serf does."""
        pieces = [p.make_metavar(ctx) for p in self.params if isinstance(p, click.Argument)]
        formatter.write_usage(ctx.command_path, " ".join(["[flags]", *pieces]))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the flags with one dash."""
        rows = [
            (f"-{_name(param)}{'' if _is_switch(param) else '=VALUE'}", param.help or "")
            for param in self.params
            if isinstance(param, click.Option)
        ]
        if rows:
            with formatter.section("Flags"):
                formatter.write_dl(rows)


def split(command: click.Command, args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags as ``--name=value``, and the words behind them."""
    known = {_name(param): param for param in command.params if isinstance(param, click.Option)}
    flags: list[str] = []
    words = list(args)
    while words and len(words[0]) > 1 and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        if name not in known:
            if name in HELP:
                _show_help(command)
            raise FlagError(f"flag provided but not defined: -{name}")
        if _is_switch(known[name]):
            value = _truth(name, value) if equals else "true"
        elif not equals:
            if not words:
                raise FlagError(f"flag needs an argument: -{name}")
            value = words.pop(0)
        flags.append(f"--{name}={value}")
    return flags, words


def _show_help(command: click.Command) -> NoReturn:
    context = click.get_current_context(silent=True)
    name = context.info_name if context else command.name
    click.echo(command.get_help(click.Context(command, info_name=name)))
    sys.exit(0)


def _name(param: click.Parameter) -> str:
    return param.opts[0].lstrip("-")


def _is_switch(param: click.Parameter) -> bool:
    return isinstance(param.type, type(click.BOOL))


def _truth(name: str, value: str) -> str:
    if value not in TRUE + FALSE:
        raise FlagError(f'invalid boolean value "{value}" for -{name}: parse error')
    return "true" if value in TRUE else "false"


def _given(args: Sequence[str], flag_name: str) -> str:
    """The value that a flag was given last."""
    name = flag_name.replace("_", "-")
    found = ""
    for at, word in enumerate(args):
        flag_word, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag_word == name:
            found = value if equals else next(iter(args[at + 1 : at + 2]), "")
    return found
