"""A real `buslane up` on a folder and ports of its own, and a Chromium that looks at it."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

READY_LIMIT_S = 60
STOP_LIMIT_S = 20

# Few logins, so that a small storm is one.
SETTINGS = """
[gateway]
enrolment = "open"
[gateway.limits]
address = { burst = 100000, per_minute = 100000 }
enrol_name = { burst = 100, per_minute = 100 }
user = { burst = 1000, per_minute = 1000 }
claims = { burst = 1000, per_minute = 1000 }
failures = { burst = 1000, per_minute = 1000 }
[session_manager.overload.background]
logins_per_s_max = %d
slot_tolerance_ms = 5000
[session_manager.overload.posture]
dwell_ms = 2000
calm_ms = 500
ledger_ms = 1000
reopen_percent_per_s = 50
# How late the timers of a machine are that runs a browser as well says nothing about the node.
[session_manager.overload.thresholds]
lateness_ms = { guard = 5000.0, hard = 10000.0 }
foreground_wait_ms = { guard = 5000.0, hard = 10000.0 }
sojourn_ms = { guard = 5000.0, hard = 10000.0 }
dependency = { guard = 0.001, hard = 0.0005 }
"""


def chromium() -> str | None:
    """The browser of this system."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Server:
    """Runs until `stop`."""

    def __init__(self, binary: str, logins_per_s: int, settings: str = ""):
        self.binary = binary
        self.logins_per_s = logins_per_s
        self.folder = tempfile.TemporaryDirectory(prefix="buslane-browser-")
        self.home = Path(self.folder.name)
        self.data = self.home / "up"
        self.others: list[subprocess.Popen] = []
        self.data.mkdir(mode=0o700)
        (self.data / "config.toml").write_text(SETTINGS % logins_per_s + settings)
        self.env = os.environ | {"BUSLANE_HOME": str(self.home)}
        addresses = [part for name in ("gate", "front", "wake", "admin") for part in (f"--{name}", "127.0.0.1:0")]
        self.log = self.home / "up.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "up", "--json", "--data", str(self.data), *addresses],
                env=self.env, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        # It says one line when it is ready, or ends.
        self.ready = json.loads(self.process.stdout.readline() or b"{}")
        if self.ready.get("ready") is not True:
            raise SystemExit(f"`buslane up` did not become ready:\n{self.tail()}")
        self.url = f"http://{self.ready['admin']}"
        self.token = (self.data / "admin.token").read_text().strip()

    def tail(self) -> str:
        """The last lines of the server and of the storm."""
        logs = [log.read_text(errors="replace").splitlines()[-30:] for log in (self.log, self.home / "storm.log") if log.exists()]
        return "\n".join(line for log in logs for line in log)

    def ask(self, path: str, body: dict | None = None) -> dict:
        """The answer of the API, asked with the folder's token."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=15) as answer:
            return json.load(answer)["result"]

    def run(self, *words: str) -> None:
        """A command of the binary, to its end."""
        done = subprocess.run([self.binary, *words], env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"

    def storm(self, scenario: str, *more: str) -> subprocess.Popen:
        """A storm against it, which goes on while one looks."""
        with open(self.home / "storm.log", "wb") as log:
            process = subprocess.Popen(
                [self.binary, "load", "run", scenario, "--against", self.ready["gate"], "--ca", self.ready["ca"],
                 "--logins-per-s", str(self.logins_per_s), "--messages-per-s", "1000", "--out", str(self.home / "report"), *more],
                env=self.env, stdout=log, stderr=log, cwd=self.home,
            )  # fmt: skip
        self.others.append(process)
        return process

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it and everything that was started against it."""
        try:
            for process in [*self.others, self.process]:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
                    try:
                        process.wait(STOP_LIMIT_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
        finally:
            self.folder.cleanup()
