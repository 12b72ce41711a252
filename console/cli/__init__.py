"""The `param` command.

Each module holds the commands of one subject; they call services and print what those return.
Nothing heavy is imported before a command needs it, so that `param --help` answers at once.
Owns how results and errors look in a terminal and as JSON; knows no rule of any service.
"""


def main() -> None:
    """Entry point of the `param` command."""
    from console.cli.app import app

    app()
