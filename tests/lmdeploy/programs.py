"""`lmdeploy` as a program: the real command line, over the scripted engine or as it is."""

from pathlib import Path

from installation import python_with
from launch import SCRIPTS, STANDIN

_TEXT = """#!{python}
import os, runpy, sys
# its own leash is off, so that only ours can end it
reading, writing = os.pipe()
sys.stdin = os.fdopen(reading)
if "--help" in sys.argv:
    from lmdeploy.cli.entrypoint import run
    sys.argv[0] = "lmdeploy"
    run()
elif __name__ == "__main__":
    os.environ["STANDIN_CONTROL_PORT"] = "{control}"
    sys.path.insert(0, {standin!r})
    runpy.run_path({script!r}, run_name="__main__")
"""


def scripted(version: str, folder: Path, control_port: int) -> Path:
    """A program that takes the arguments of `lmdeploy` and serves with the scripted engine."""
    program = folder / "lmdeploy"
    text = _TEXT.format(
        python=python_with(version, print),
        control=control_port,
        standin=str(STANDIN),
        script=str(SCRIPTS[version]),
    )
    program.write_text(text, "utf-8")
    program.chmod(0o755)
    return program


def real(version: str) -> Path:
    """The program as it was installed."""
    return python_with(version, print).with_name("lmdeploy")
