#!/usr/bin/env python3
"""Runs the README's session with the real programs, and draws it as an SVG.

    PATH="$PWD/target/release:$PATH" docs/pictures/transcript.py

Needs `snowbankd`, `snowbank` and Nix on the PATH, and Python 3.9. Everything happens in a temporary
folder: a server with its data folder, and the Nix stores of two machines, `ci` and `laptop`. Each
command runs in a terminal (a pty), and the picture has the screen that it leaves. Only this much is
changed: the folder is shown as the home folder, the server's port as 8080, and long lines break
between words.
"""

import errno
import fcntl
import html
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata
from pathlib import Path

COLUMNS = 108
PICTURE = Path(__file__).with_name("transcript.svg")
TITLE = "A push, a push of a rebuild, and a substitution"

# Two packages. The second has the first one's path in many places, and data of its own.
PACKAGES = r"""
let
  build = name: libraries: script: derivation {
    inherit name libraries;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-ec" script ];
  };
  library = build "libgreet" [ ] "mkdir $out; echo 'hello' > $out/greeting";
in build "greeter-1.0" [ library ] ''
  mkdir -p $out/bin
  { echo "#!/bin/sh"; echo "cat $libraries/greeting"; } > $out/bin/greeter
  chmod +x $out/bin/greeter
  awk -v library=$libraries 'BEGIN {
    srand(1)
    for (i = 0; i < 60000; i++) {
      for (j = 0; j < 8; j++) printf "%08x", int(rand() * 4294967296)
      print i % 500 ? "" : " " library
    }
  }' > $out/messages
''
"""

NIX_CONF = """build-users-group =
sandbox = true
sandbox-paths = {folders}
substituters =
experimental-features = nix-command
"""

REBUILD = "a rebuild: the library is fixed, so the hash in every path to it changes"

# The machine, a comment above the command or none, and the command.
SESSION = [
    ("ci", None, "snowbank push main ./result --receipts receipts.jsonl"),
    ("ci", REBUILD, "nix-build --quiet"),
    ("ci", None, "snowbank push main ./result"),
    ("ci", None, "snowbank verify-receipts receipts.jsonl"),
    ("laptop", None, "snowbank use main --recommended"),
    ("laptop", None, "nix-store --realise {path} --add-root result"),
]


class Screen:
    """The lines that a terminal shows: text, carriage returns, cursor moves and colors."""

    ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")

    def __init__(self):
        self.lines, self.row, self.column, self.style = [[]], 0, 0, ""

    def feed(self, text):
        at = 0
        while at < len(text):
            escape = self.ESCAPE.match(text, at)
            if escape:
                self.control(escape.group(1), escape.group(2))
                at = escape.end()
                continue
            self.put(text[at])
            at += 1

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif not unicodedata.category(char).startswith("C"):
            line = self.line()
            line.extend([(" ", "")] * (self.column + 1 - len(line)))
            line[self.column] = (char, self.style)
            self.column += 1

    def line(self):
        while len(self.lines) <= self.row:
            self.lines.append([])
        return self.lines[self.row]

    def control(self, text, letter):
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        count = numbers[0] if numbers else 0
        if letter == "m":
            for number in numbers or [0]:
                if number == 0:
                    self.style = ""
                elif number == 1:
                    self.style = (self.style + " strong").strip()
                elif 31 <= number <= 36 or 91 <= number <= 96:
                    self.style = (self.style + f" color{number % 10}").strip()
        elif letter == "K":
            line = self.line()
            if count == 0:
                del line[self.column:]
            elif count == 2:
                line.clear()
        elif letter == "A":
            self.row = max(self.row - max(count, 1), 0)
        elif letter == "B":
            self.row += max(count, 1)
        elif letter == "G":
            self.column = max(count, 1) - 1
        elif letter == "J" and count == 0:
            del self.line()[self.column:]
            del self.lines[self.row + 1:]

    def shown(self):
        lines = ["".join(char for char, _ in line).rstrip() for line in self.lines]
        kept = [line[:len(text)] for line, text in zip(self.lines, lines)]
        while kept and not kept[-1]:
            kept.pop()
        return kept


def run(command, folder, environment):
    """Runs a command in a terminal to its end, and gives the screen's lines."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve("/bin/sh", ["sh", "-c", command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    data = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                break
            raise
        if not piece:
            break
        data += piece
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = data.decode()
    if status != 0:
        sys.exit(f"`{command}` ended with {status}:\n{text}")
    return text


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Machine:
    """A Nix store and a home folder."""

    def __init__(self, scratch, name):
        self.home = scratch / name / "home"
        self.work = self.home / "greeter"
        self.work.mkdir(parents=True)
        conf = scratch / name / "conf"
        conf.mkdir()
        folders = ("/bin", "/usr", "/lib", "/lib64", "/etc/alternatives")
        present = " ".join(folder for folder in folders if os.path.exists(folder))
        (conf / "nix.conf").write_text(NIX_CONF.format(folders=present))
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "NIX_CONF_DIR": str(conf),
            "NIX_REMOTE": f"local?root={scratch / name / 'root'}",
        }

    def quietly(self, command):
        done = subprocess.run(["sh", "-c", command], cwd=self.work, env=self.environment,
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"`{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def record(scratch):
    """The session's lines: each a list of (text, style)."""
    port = free_port()
    machines = {name: Machine(scratch, name) for name in ("ci", "laptop")}
    ci, laptop = machines["ci"], machines["laptop"]
    server_home = scratch / "server"
    server_home.mkdir()
    server = subprocess.Popen(
        ["snowbankd", "--listen", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"HOME": str(server_home), "PATH": os.environ["PATH"]})
    try:
        root_token = server_home / ".local/share/snowbank/root-token"
        deadline = time.monotonic() + 30
        while True:
            if root_token.exists():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("snowbankd did not start")
            time.sleep(0.1)
        source = ci.work / "default.nix"
        source.write_text(PACKAGES)
        ci.quietly("nix-build --quiet")
        for machine in machines.values():
            machine.quietly(f"snowbank login local http://127.0.0.1:{port} < {root_token}")
        lines = []
        for name, comment, command in SESSION:
            machine = machines[name]
            if comment:
                source.write_text(PACKAGES.replace("'hello'", "'hello, world'"))
            if lines:
                lines.append([])
            if comment:
                lines.append([(f"{name}$ ", "prompt"), (f"# {comment}", "comment")])
            path = os.readlink(ci.work / "result")
            command = command.format(path=path)
            text = run(command, machine.work, machine.environment)
            for real, shown in ((str(machine.home), "~"), (f"127.0.0.1:{port}", "127.0.0.1:8080")):
                text = text.replace(real, shown)
            lines.append([(f"{name}$ ", "prompt"), (command, "strong")])
            screen = Screen()
            screen.feed(text)
            lines.extend(screen.shown())
        assert (laptop.work / "result").is_symlink()
        return lines
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def wrapped(lines):
    """Lines that fit the width, each as a list of [text, style]."""
    for line in lines:
        rest = [(char, style) for text, style in line for char in text]
        while len(rest) > COLUMNS:
            spaces = [at for at, (char, _) in enumerate(rest[:COLUMNS + 1]) if char == " "]
            end = spaces[-1] if spaces and spaces[-1] > 0 else COLUMNS
            yield runs(rest[:end])
            rest = rest[end + 1:] if spaces else rest[end:]
        yield runs(rest)


def runs(chars):
    """Neighbors of one style as one text."""
    found = []
    for char, style in chars:
        if found and found[-1][1] == style:
            found[-1][0] += char
        else:
            found.append([char, style])
    return found


STYLE = """
    .screen { fill: #f6f8fa; stroke: #d0d7de }
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      fill: #1f2328; white-space: pre }
    .prompt { fill: #1a7f37 } .comment { fill: #59636e } .strong { font-weight: 600 }
    .color1 { fill: #cf222e } .color2 { fill: #1a7f37 } .color3 { fill: #9a6700 }
    .color4 { fill: #0969da } .color5 { fill: #8250df } .color6 { fill: #1b7c83 }
    @media (prefers-color-scheme: dark) {
      .screen { fill: #0d1117; stroke: #3d444d }
      text { fill: #e6edf3 }
      .prompt { fill: #3fb950 } .comment { fill: #9198a1 }
      .color1 { fill: #ff7b72 } .color2 { fill: #3fb950 } .color3 { fill: #d29922 }
      .color4 { fill: #58a6ff } .color5 { fill: #bc8cff } .color6 { fill: #39c5cf }
    }
"""


def draw(lines):
    """The SVG of these lines."""
    lines = list(wrapped(lines))
    step, left, top, width = 19, 20, 34, 8
    size = (COLUMNS * width + 2 * left, len(lines) * step + 2 * top - step)
    plain = "\n".join("".join(text for text, _ in line) for line in lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" role="img"'
        ' aria-labelledby="title description">',
        f'  <title id="title">{TITLE}</title>',
        f'  <desc id="description">{html.escape(plain)}</desc>',
        f"  <style>{STYLE}  </style>",
        '  <rect class="screen" x="0.5" y="0.5" rx="8"'
        f' width="{size[0] - 1}" height="{size[1] - 1}"/>',
    ]
    for number, line in enumerate(lines):
        spans = "".join(
            f'<tspan class="{style}">{html.escape(text)}</tspan>' if style else html.escape(text)
            for text, style in line)
        if spans:
            # The length is said, so that the columns hold whichever font the reader has.
            length = sum(len(text) for text, _ in line) * width
            out.append(f'  <text x="{left}" y="{top + number * step}" textLength="{length}"'
                       f' xml:space="preserve">{spans}</text>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    programs = ("snowbankd", "snowbank", "nix-build", "nix-store")
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        sys.exit(f"not on the PATH: {', '.join(missing)}")
    scratch = Path(tempfile.mkdtemp(prefix="snowbank-transcript-"))
    try:
        PICTURE.write_text(draw(record(scratch)))
    finally:
        # The Nix stores are read-only.
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
