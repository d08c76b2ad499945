"""`ipfs-mfs completion`: the script that a shell sources."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import cli, verb


@verb(
    "completion",
    examples="ipfs-mfs completion bash > /etc/bash_completion.d/ipfs-mfs\n"
    "ipfs-mfs completion fish > ~/.config/fish/completions/ipfs-mfs.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(app: App, shell: str) -> None:
    """Commands and options complete; the script asks the program itself, so it stays right."""
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None, "click has these three built in"
    text = completion(cli, {}, "ipfs-mfs", "_IPFS_MFS_COMPLETE").source()
    app.output.record({"shell": shell, "script": text}, text)
