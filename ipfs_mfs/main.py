"""Entry point of `ipfs-mfs`: runs a command and turns any error into one line and an exit status.

The outermost edge: the only place of the program that catches `Exception`. Errors are
`ipfs-mfs: what: why (what to do)` on standard error; a traceback only with -v.
"""

import os
import sys

import click

from ipfs_mfs import exits, interrupt
from ipfs_mfs.cli import Invocation, cli


def main() -> None:
    interrupt.install()
    interrupt.end(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exit status of one command line. Prints; never raises but SystemExit of completion."""
    invocation = Invocation()
    try:
        status = cli.main(
            args=arguments, prog_name="ipfs-mfs", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.FAILED
    except (click.Abort, KeyboardInterrupt):
        _complain(invocation, "interrupted (what was reported as done is kept)")
        return exits.FAILED
    except click.ClickException as error:
        _complain_about_usage(invocation, error)
        return exits.USAGE
    except Exception as error:  # noqa: BLE001  # the outermost edge: one line instead of a traceback
        if invocation.verbose:
            import traceback

            traceback.print_exc()
        _complain(invocation, exits.describe(error))
        return exits.exit_code(error)
    return status if isinstance(status, int) else exits.DONE


def _complain_about_usage(invocation: Invocation, error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    if context is not None and not invocation.command:
        invocation.command = context.command_path.partition(" ")[2]
    hint = f"ipfs-mfs {invocation.command}".strip()
    message = error.format_message().rstrip(".")
    _complain(invocation, f"{message} (see `{hint} --help`)")


def _complain(invocation: Invocation, message: str) -> None:
    line = "; ".join(part.strip() for part in message.splitlines() if part.strip())
    prefix = f"ipfs-mfs: {invocation.command}: " if invocation.command else "ipfs-mfs: "
    print(prefix + line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
