"""Manual pages from the command tree, so that they cannot differ from `--help`.

Pure: takes click commands, gives roff text. Names are `ipfs-mfs.1`, `ipfs-mfs-root-create.1` and so
on, as git does it.
"""

from collections.abc import Iterator

import click

from ipfs_mfs import __version__


def pages(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    """(file name, roff text) of the group and of everything below it."""
    context = click.Context(group, info_name=name, max_content_width=78)
    yield f"{name.replace(' ', '-')}.1", page(group, context)
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        assert command is not None, "list_commands names only what get_command finds"
        if isinstance(command, click.Group):
            yield from pages(command, f"{name} {child}")
        else:
            full = f"{name} {child}"
            own = click.Context(command, info_name=full, max_content_width=78)
            yield f"{full.replace(' ', '-')}.1", page(command, own)


def page(command: click.Command, context: click.Context) -> str:
    """One manual page."""
    name = (context.info_name or "").replace(" ", "-")
    summary, _, body = (command.help or "").partition("\n\n")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [
        f'.TH {_quoted(name.upper())} 1 "" {_quoted(f"ipfs-mfs {__version__}")}',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(' '.join(summary.split()).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escaped(usage)}",
    ]
    if body.strip():
        lines += [".SH DESCRIPTION", _escaped(" ".join(body.split()))]
    lines += _options(command, context)
    if isinstance(command, click.Group):
        lines += _commands(command, context)
    if command.epilog:
        lines += _epilog(command.epilog)
    return "\n".join(lines) + "\n"


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None and record[1]
    ]
    lines = [".SH OPTIONS"] if records else []
    for flags, text in records:
        lines += [".TP", f".B {_escaped(flags)}", _escaped(text)]
    return lines


def _commands(group: click.Group, context: click.Context) -> list[str]:
    lines = [".SH COMMANDS"]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        summary = command.get_short_help_str(200) if command is not None else ""
        page_name = f"{context.info_name} {name}".replace(" ", "-")
        lines += [".TP", f".BR {_escaped(page_name)} (1)", _escaped(summary)]
    return lines


def _epilog(epilog: str) -> list[str]:
    """Sections `Title:` with indented lines, which keep their breaks."""
    lines: list[str] = []
    for line in epilog.replace("\b", "").strip().splitlines():
        if not line.strip():
            continue
        title, separator, rest = line.partition(":")
        if not line.startswith(" ") and separator:
            if lines:
                lines.append(".fi")
            lines += [f".SH {_escaped(title.upper())}", ".nf"]
            line = rest
        if line.strip():
            lines.append(_escaped(line.strip()))
    return [*lines, ".fi"]


def _escaped(text: str) -> str:
    """Text that roff prints as it is: a leading '.' or "'" would be a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace('"', "\\(dq") + '"'
