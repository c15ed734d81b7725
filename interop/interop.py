#!/usr/bin/env python3
"""Proves docs/protocol.md: a client that was written from it, with another QUIC stack, TLS and protobuf, against the real
server. Prints each step and ends with `interop: N steps passed`; the exit code is 1 when a step fails.

    python interop/interop.py --buslane target/debug/buslane
"""

import argparse
import asyncio
import sys
import time
import traceback

import flows
import hostile
import lanes
import refusals
from server import Server

STEP_LIMIT_S = 90


async def run(binary: str, only: str | None) -> int:
    server = Server(binary)
    world = flows.World(server)
    passed = 0
    try:
        world.system = await server.start()
        for step in flows.STEPS + refusals.STEPS + lanes.STEPS + hostile.STEPS + flows.LAST_STEPS:
            name = " ".join(step.__doc__.split()).rstrip(".")
            if only and step not in flows.STEPS and only not in name:
                continue
            began = time.monotonic()
            try:
                note = await asyncio.wait_for(step(world), STEP_LIMIT_S)
            except Exception as error:  # a step fails in whatever way it fails
                print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
                traceback.print_exc()
                print(f"--- the server's last lines ---\n{server.tail()}", file=sys.stderr)
                return 1
            passed += 1
            print(f"ok  {name} ({time.monotonic() - began:.2f} s{'; ' + note if note else ''})", flush=True)
        print(f"interop: {passed} steps passed")
        return 0
    finally:
        await world.close()
        await server.stop()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--buslane", required=True, help="the binary to test")
    arguments.add_argument("--only", help="after the ordinary flow, only steps whose name contains this")
    given = arguments.parse_args()
    return asyncio.run(run(given.buslane, given.only))


if __name__ == "__main__":
    sys.exit(main())
