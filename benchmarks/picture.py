"""The pictures of `autopilot demo` in README, from a real run: `make picture` writes docs/demo.svg and demo-narrow.svg.

The demo runs in a terminal of its own. The pictures show its output in order, without the start and the end of the
stack and without the addresses of Temporal's UI. The live view of one scenario is shown as it was just before the
verdict; a terminal erases it afterwards. Lines are wrapped at the width of the picture, and the live view is cut there.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from canary import AUTOPILOT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from staging import TOOLS

SCENARIOS = ("canary-good", "canary-bad", "crash")
WATCHED = "canary-bad"
VIEW = ("steps", "errors")
"""First and last line of the live view that the picture shows."""
PICTURES = {"demo.svg": 98, "demo-narrow.svg": 50}
"""Columns: a page on a desk, and a phone."""
DOCS = Path(__file__).parents[1] / "docs"
COLUMNS, ROWS = 400, 60
BOUND = "\ue000"
"""Stands for a blank at which no line is broken."""
LIMIT = 300.0

DARK = [(72, 79, 88), (255, 123, 114), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221)]
"""Black, red, green, yellow, blue, magenta, cyan."""
THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [*DARK, (201, 209, 217)],
)
# Rich's own format loads a font from another host; a picture of ours asks for none.
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>Output of autopilot demo</title>
<style>
.{unique_id}-matrix, .{unique_id}-title {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
}}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px; white-space: pre; }}
.{unique_id}-title {{ font-size: 18px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen:
    """As much of a terminal as a live view of rich needs: lines that are written, erased and written again."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0
        self._erasing = False

    def play(self, output: str) -> Iterator[list[str]]:
        """Writes the output; yields the lines as they were each time that something is about to be erased."""
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", output):
            if part == "\x1b[2K":
                if not self._erasing:
                    yield list(self.lines)
                self._erasing = True
                self.lines[self._row] = ""
            elif part.endswith("A") and part.startswith("\x1b["):
                self._row -= int(part[2:-1] or 1)
            elif part == "\n":
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif part and part != "\r" and not part.startswith("\x1b[?"):
                self._erasing = False
                self.lines[self._row] += part


def main() -> None:
    """Runs the demo and writes the pictures."""
    lines = picked(record())
    for name, columns in PICTURES.items():
        (DOCS / name).write_text(draw(lines, columns), encoding="utf-8")
        print(f"wrote docs/{name}")


def record() -> str:
    """What the demo writes to a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "AUTOPILOT_HOME": folder,
            "AUTOPILOT_TOOLS": os.environ.get("AUTOPILOT_TOOLS", str(TOOLS)),
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm-256color",
        }
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        demo = subprocess.Popen(
            ["timeout", f"{LIMIT:g}", *AUTOPILOT, "demo", *SCENARIOS],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment,
        )  # fmt: skip
        os.close(theirs)
        output = b"".join(_read(ours))
        os.close(ours)
        if demo.wait() != 0:
            end = [line.strip()[:200] for line in plain(output.decode(errors="replace")).splitlines()[-10:]]
            sys.exit("autopilot demo failed; the end of its output:\n" + "\n".join(end))
    return output.decode()


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            found = os.read(terminal, 65536)
        except OSError:  # Linux's answer where nobody has the other end open any more
            return
        if not found:
            return
        yield found


def picked(output: str) -> list[str]:
    """The lines of the picture, with their colours; lines of the live view begin with a bar."""
    screen, view = Screen(), []
    for lines in screen.play(output):
        view = live(lines) or view
    if not view:
        sys.exit(f"the live view of {WATCHED} was not found in the demo's output")
    shown = ["\x1b[2m$\x1b[0m \x1b[1mautopilot demo " + " ".join(SCENARIOS) + "\x1b[0m"]
    inside = False
    for line in screen.lines:
        text = plain(line)
        inside = inside or text.startswith(tuple(f"{name}:" for name in SCENARIOS))
        if not inside or "http://" in text:
            continue
        if re.match(r"  . (temporal|guard|worker|stopping)\b", text):
            inside = False  # parts of the stack come and go
            continue
        shown.append(line)
        if text.startswith(f"{WATCHED}:"):
            shown += [f"│{each}" for each in view]
    return shown


def live(lines: Sequence[str]) -> list[str]:
    """The part of the live view that is shown, where these lines have one of the watched scenario."""
    texts = [plain(line) for line in lines]
    headings = [at for at, text in enumerate(texts) if text.startswith(tuple(f"{name}:" for name in SCENARIOS))]
    if not headings or not texts[headings[-1]].startswith(f"{WATCHED}:"):
        return []
    found = [[at for at, text in enumerate(texts) if at > headings[-1] and text.split()[:1] == [word]] for word in VIEW]
    if not all(found) or "▶" not in texts[found[0][0]]:
        return []
    return [line.rstrip() for line in lines[found[0][0] : found[1][0] + 1]]


def draw(lines: Sequence[str], columns: int) -> str:
    """The lines as a terminal's picture."""
    console = Console(
        record=True, width=columns + 2, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        legacy_windows=False,
    )  # fmt: skip
    for line in lines:
        for row in (
            _cut(Text.from_ansi(line), columns) if line.startswith("│") else _wrapped(Text.from_ansi(line), columns)
        ):
            row.rstrip()
            console.print(Text(" ") + row, highlight=False)
    console.print()
    written = console.export_svg(title="", theme=THEME, code_format=FORMAT, unique_id="demo")
    return "\n".join(line.rstrip() for line in written.splitlines() if line.strip()) + "\n"


def _cut(line: Text, columns: int) -> list[Text]:
    """A line of the live view, as far as whole columns of it go."""
    text = Text("  ") + Text("│ ", "dim") + line[2 if line.plain.startswith("│ ") else 1 :]
    while len(text) > columns:
        text = text[: [found.start() for found in re.finditer(r" *(  |, | · )(?=\S)", text.plain)][-1]]
    return [text]


def _wrapped(line: Text, columns: int) -> list[Text]:
    """A line, the rest of it further in; no unit without its number."""
    line.rstrip()
    indent = len(line.plain) - len(line.plain.lstrip())
    text = line[indent:]
    text.plain = re.sub(r"(?<=\d) (?=(s|%)(\W|$))", BOUND, text.plain)
    rows = text.wrap(Console(), columns - indent - 2)
    for row in rows:
        row.plain = row.plain.replace(BOUND, " ")
    return [Text(" " * (indent + 2 * (at > 0))) + row for at, row in enumerate(rows)] or [Text()]


def plain(line: str) -> str:
    """Text without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


if __name__ == "__main__":
    main()
