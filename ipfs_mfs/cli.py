"""The command tree, without the commands: each is imported when it is asked for.

Invariants:
- `--help`, `--version` and completion import click and this module only: no gRPC, no protobuf, no
  crypto, no layer below. A test holds the list of modules that `--help` may load.
- every command takes `--store`, `--json`, `-q`, `-v` and `--help`, and gets an `App` first.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import click

from ipfs_mfs import __version__
from ipfs_mfs.errors import Interrupted

COMMANDS = {
    "add": "Add files, directories or standard input; print their CIDs.",
    "bench": "Measure the store beside the limits of its device and this machine.",
    "cat": "Write the content of a file to standard output.",
    "check": "Read and verify everything in the store; repair it.",
    "compact": "Give the space of dropped data back to the store.",
    "completion": "Print the completion script for a shell.",
    "dump": "Show what is on the device, structure by structure.",
    "doctor": "Look for what keeps the program from working, and name the fix.",
    "export": "Write a DAG as a CAR file.",
    "format": "Make a block device or a file an empty store.",
    "gc": "Remove blocks that no root, snapshot or pin needs.",
    "get": "Copy a file or a directory out of the store.",
    "import": "Read a CAR file into the store.",
    "ls": "List a directory.",
    "man": "Write the manual pages.",
    "mount": "Mount a root, all roots or a CID.",
    "pin": "Keep content: add, rm, ls.",
    "resize": "Make the store larger or smaller, keeping what it holds.",
    "root": "Named mutable trees: create, snapshot, clone, diff and more.",
    "scrub": "Read and verify everything while the store is in use.",
    "stat": "Say what an address names.",
    "stats": "Show what the store holds and how full it is.",
    "sync": "Make everything durable and bring it into the DAG.",
    "umount": "Unmount, wait until all is written, and end the daemon.",
}
ROOT_COMMANDS = {
    "clone": "Make a new root from a root or a snapshot.",
    "create": "Make a root, empty or from a CID.",
    "diff": "List the paths that differ between two roots or snapshots.",
    "drop": "Delete a root, whose snapshots stay, or one snapshot.",
    "list": "List the roots.",
    "log": "List the former states of a root.",
    "rename": "Give a root another name.",
    "restore": "Set a root back to a snapshot.",
    "snapshot": "Keep the present state of a root under a name.",
    "snapshots": "List the snapshots of a root.",
    "stat": "Show CID, sizes and settings of a root.",
}
PIN_COMMANDS = {
    "add": "Keep a DAG, or one block of it.",
    "ls": "List the pins.",
    "rm": "Stop keeping a DAG.",
}


class LazyGroup(click.Group):
    """A group whose commands are modules `package.NAME` with an attribute `command`."""

    def __init__(self, *args: Any, package: str, summaries: dict[str, str], **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self._package = package
        self.summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return sorted(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in self.summaries:
            return None
        # `import` is a Python keyword, so no module can have that name.
        module_name = "import_car" if cmd_name == "import" else cmd_name
        module = importlib.import_module(f"{self._package}.{module_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.summaries.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=summary)
            for name, summary in sorted(self.summaries.items())
            if name.startswith(incomplete)
        ]
        # Group.shell_complete would import every command just to read its help.
        return [*names, *super(click.Group, self).shell_complete(ctx, incomplete)]


def verb(
    name: str, *, examples: str, summaries: Mapping[str, str] = COMMANDS, **attrs: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """Decorator: a command with the common options, the summary of the table that lists it, the
    function's docstring below that, and `examples`, one a line, at the end of its help."""
    summary = summaries[name]

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.pass_context
        @functools.wraps(function)
        def wrapper(context: click.Context, /, **options: Any) -> None:
            from ipfs_mfs.app import App, Output

            output = Output(
                as_json=options.pop("as_json"),
                quiet=options.pop("quiet"),
                verbose=options.pop("verbose"),
            )
            if isinstance(context.obj, Invocation):
                context.obj.command = context.command_path.partition(" ")[2]
                context.obj.verbose = output.verbose
            try:
                with App(output, store=options.pop("store")) as app:
                    function(app, **options)
            except KeyboardInterrupt:
                # click would print an empty line and then raise an error of its own.
                raise Interrupted("interrupted", "what was reported as done is kept") from None

        text = f"{summary}\n\n{function.__doc__ or ''}"
        lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
        make: Callable[..., click.Command] = click.command(
            name, help=text, short_help=summary, epilog=f"\b\nExamples:\n{lines}", **attrs
        )
        made = make(wrapper)
        made.params.extend(_common_options())
        return made

    return decorate


def kubo_flag(*names: str, **attrs: Any) -> Callable[[Any], Any]:
    """A switch in Kubo's manner: `--flag` or `--flag=false`, never `--flag false`."""
    return click.option(*names, type=click.BOOL, metavar="[=BOOL]", cls=_KuboFlag, **attrs)


class _KuboFlag(click.Option):
    """Marks options for KuboCommand."""


class KuboCommand(click.Command):
    """Gives a `kubo_flag` without a value the value true.

    click alone would take the argument after it as its value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {
            name
            for parameter in self.params
            if isinstance(parameter, _KuboFlag)
            for name in parameter.opts
        }
        end = args.index("--") if "--" in args else len(args)
        options = [
            _with_value(argument) if argument in names else argument for argument in args[:end]
        ]
        return super().parse_args(ctx, options + args[end:])


def _with_value(name: str) -> str:
    """`--flag=true`, or `-ftrue` for a short name, which click splits after the letter."""
    return f"{name}=true" if name.startswith("--") else f"{name}true"


class Invocation:
    """What the error edge of `main` needs to know about the command that ran."""

    def __init__(self) -> None:
        self.command = ""
        self.verbose = False


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--store"],
            metavar="PATH",
            help="Block device or file of the store. Default: $IPFS_MFS_STORE, the configuration "
            "file, ~/.local/share/ipfs-mfs/store.blk.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, one object a line."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Print errors and asked-for data only."),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say more; show where errors arise."),
    ]


@click.group(
    cls=LazyGroup,
    package="ipfs_mfs.commands",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  ipfs-mfs mount ./mnt              make the default store if there is none, and mount it\n"
    "  ipfs-mfs add -r ./photos          add a directory, print its CID\n"
    "  ipfs-mfs root snapshot main now   keep the present state of root main\n\n"
    "\b\nExit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 busy or locked,\n"
    "  5 data damaged, 6 needs a privilege or a device.",
)
@click.version_option(__version__, prog_name="ipfs-mfs", message="%(prog)s %(version)s")
def cli() -> None:
    """A file system and a content store on one block device or file, with IPFS CIDs."""
