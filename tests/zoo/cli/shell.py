"""The command line in this process."""

import sys

from zoo import cli


def runner(monkeypatch, capfd):
    """Runs the command line; → exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
