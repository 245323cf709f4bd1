"""`headrace` and `python -m headrace`."""

import sys


def main() -> None:
    """Runs the command line; any error of ours is one line, exit 1 (settings and usage: 2)."""
    from headrace.cli import app, explain

    try:
        app()
    except Exception as exc:  # noqa: BLE001 - the last border: known errors become one line
        sys.exit(explain(exc))


if __name__ == "__main__":
    main()
