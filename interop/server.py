"""A real `buslane up` on a folder and ports of its own."""

import asyncio
import json
import os
import signal
import tempfile
import urllib.request
from pathlib import Path

from client import System

READY_LIMIT_S = 30
STOP_LIMIT_S = 20

# The product's settings with shorter times, so that the limits can be watched at work.
SETTINGS = """
[gateway]
enrolment = "open"
[gateway.limits]
address = { burst = 100000, per_minute = 100000 }
enrol_name = { burst = 100, per_minute = 100 }
user = { burst = 1000, per_minute = 1000 }
claims = { burst = 1000, per_minute = 1000 }
failures = { burst = 1000, per_minute = 1000 }
[session_manager.times]
hello_limit_ms = 2000
frame_limit_ms = 2000
slow_reader_limit_ms = 2500
ping_interval_ms = 1000
idle_limit_ms = 4000
drain_ms = 500
[backend.limits]
user_sends_per_s = 0
room_sends_per_s = 0
user_changes_per_s = 0
"""


class Server:
    """Runs until `stop`."""

    def __init__(self, binary: str):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory(prefix="buslane-interop-")
        self.home = Path(self.folder.name)
        self.log = self.home / "up.log"
        self.process: asyncio.subprocess.Process | None = None
        self.ready: dict = {}

    async def start(self) -> System:
        data = self.home / "up"
        data.mkdir(mode=0o700)
        (data / "config.toml").write_text(SETTINGS)
        addresses = [part for name in ("gate", "front", "wake", "admin") for part in (f"--{name}", "127.0.0.1:0")]
        with open(self.log, "wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.binary, "up", "--json", "--data", str(data), *addresses,
                env=os.environ | {"BUSLANE_HOME": str(self.home)},
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_LIMIT_S)
        self.ready = json.loads(line or b"{}")
        if self.ready.get("ready") is not True:
            raise SystemExit(f"`buslane up` did not become ready:\n{self.tail()}")
        return System(self.ready["gate"], self.ready["front"], self.ready["wake"], self.ready["ca"])

    async def ctl(self, *words: str) -> dict:
        """An operator's order; what the server answers."""
        process = await asyncio.create_subprocess_exec(
            self.binary, "ctl", *words, "--json", "--data", str(self.home / "up"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), READY_LIMIT_S)
        assert process.returncode == 0, f"ctl {' '.join(words)}: {err.decode()}"
        return json.loads(out)

    def healthy(self) -> bool:
        with urllib.request.urlopen(f"http://{self.ready['admin']}/readyz", timeout=5) as answer:
            return answer.status == 200 and self.process.returncode is None

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:]) if self.log.exists() else ""

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def stop(self) -> int:
        """Ends it in order; its exit code."""
        try:
            if self.process and self.process.returncode is None:
                self.terminate()
                try:
                    await asyncio.wait_for(self.process.wait(), STOP_LIMIT_S)
                except TimeoutError:
                    self.process.kill()
                    await self.process.wait()
            return self.process.returncode if self.process else 0
        finally:
            self.folder.cleanup()
