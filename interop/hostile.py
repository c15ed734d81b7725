"""Hostile peers, while a well-behaved pair goes on talking and measures that it is not disturbed. Each function is a step."""

import asyncio
import os
import socket
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

from aioquic.quic.connection import QuicConnection

import transport
import wire
from client import ALPN_GATE, ALPN_SESSION, Gate
from flows import World
from wire import common, session

# As people write, if quickly: a busy server leaves a session unread for seconds that claims far more than a person could.
PAUSE_S = 0.25
RECEIPTS_MIN = 20
# On an idle machine a receipt takes a few milliseconds. The limit leaves room for a busy one with two cores; being queued
# behind the hostile would take seconds.
UNDISTURBED_S = 1.0
PROBE_S = 0.05
PATIENCE_S = 4 * 4 + 1  # the idle limit of an emergency is four times the usual one


class Disk(threading.Thread):
    """Writes and syncs beside the server, in its folder: disks of shared machines stand still for seconds, which is no attack."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.file = folder / "probe"
        self.slowest_s = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        with open(self.file, "wb", buffering=0) as file:
            while not self.over.wait(PROBE_S):
                began = time.monotonic()
                file.write(b"x" * 512)
                os.fdatasync(file.fileno())
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    async def end(self) -> float:
        self.over.set()
        await asyncio.to_thread(self.join)
        return self.slowest_s


@asynccontextmanager
async def undisturbed(world: World):
    """Somebody talks meanwhile, and a little longer; every receipt must come in time. Yields the times."""
    alice, bob = world.on("alice"), world.on("bob")
    times: list[float] = []
    over = asyncio.Event()
    disk = Disk(world.server.home)
    disk.start()

    async def talk():
        while not over.is_set() or len(times) < RECEIPTS_MIN:
            began = time.monotonic()
            receipt = await alice.send(world.room, "still here")
            times.append(time.monotonic() - began)
            await bob.delivered(world.room, receipt.seq)
            alice.events.clear()
            bob.tell_seen()
            bob.events.clear()
            await asyncio.sleep(PAUSE_S)

    talking = asyncio.create_task(talk())
    try:
        yield times
    finally:
        over.set()
        disk_s = await disk.end()
        await talking
    # A message may come while a sync is under way, and then needs one of its own.
    limit_s = UNDISTURBED_S + 2 * disk_s
    assert max(times) < limit_s, (
        f"receipts took {', '.join(f'{took:.2f}' for took in sorted(times)[-5:])} s; the limit was {limit_s:.2f} s, "
        f"the disk's slowest sync {disk_s:.2f} s, the posture {(await world.server.ctl('posture'))['posture']}"
    )
    assert world.server.healthy()


def note(times: list[float]) -> str:
    times = sorted(times)
    return f"{len(times)} receipts, p50 {times[len(times) // 2] * 1000:.1f} ms, max {times[-1] * 1000:.1f} ms"


def first_flight(world: World, alpn: str) -> list[bytes]:
    """The first datagrams of a handshake."""
    quic = QuicConnection(configuration=transport.configuration(alpn, world.system.ca, "localhost"))
    quic.connect(("127.0.0.1", 1), now=0.0)
    return [data for data, _ in quic.datagrams_to_send(now=0.0)]


def raw_socket(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.connect((host, int(port)))
    return udp


async def half_open(world: World):
    """1,500 handshakes that are never finished, at every port"""
    system = world.system
    async with undisturbed(world) as times:
        for address, alpn in [(system.gate, ALPN_GATE), (system.front, ALPN_SESSION), (system.wake, ALPN_SESSION)]:
            sockets = [raw_socket(address) for _ in range(50)]
            try:
                for i in range(500):
                    for data in first_flight(world, alpn):
                        sockets[i % 50].send(data)
                    if i % 10 == 9:
                        await asyncio.sleep(0.005)
            finally:
                for udp in sockets:
                    udp.close()
        # Strangers come in again as soon as the limits have thrown the half-open ones out.
        async with asyncio.timeout(30):
            while True:
                try:
                    async with await Gate.open(world.system):
                        break
                except TimeoutError:
                    continue
        guest = await world.device("carol").session()
        world.sessions["carol"] = guest
    return note(times)


async def noise(world: World):
    """3,000 datagrams of noise, cut packets and wrong versions at every port"""
    system = world.system
    good = first_flight(world, ALPN_SESSION)[0]
    async with undisturbed(world) as times:
        for address in (system.gate, system.front, system.wake):
            udp = raw_socket(address)
            try:
                for i in range(1_000):
                    data = [
                        os.urandom(1 + i % 1_400),
                        good[: 1 + i % len(good)],
                        good[:1] + os.urandom(4) + good[5:],
                        good[:40] + os.urandom(len(good) - 40),
                        bytes([0x40 | i & 0x3F]) + os.urandom(60),
                    ][i % 5]
                    try:
                        udp.send(data)
                        udp.recv(2_000)
                    except (BlockingIOError, ConnectionRefusedError):
                        pass
                    if i % 50 == 49:
                        await asyncio.sleep(0.005)
            finally:
                udp.close()
    return note(times)


async def byte_by_byte(world: World):
    """hellos and frames a byte at a time: cut off by the time limits, not by their slowness alone"""
    dora = await world.enrolled("dora-slow")
    await dora.enter()
    async with undisturbed(world) as times:
        # Each byte in a packet of its own is fine, as long as it is done in time.
        quick = await dora.dial()
        opened = type(world.on("alice"))(dora, quick)
        for byte in wire.frame(dora.hello(quick)):
            opened.talk.write(bytes([byte]))
            await asyncio.sleep(0)
        await opened.begin()
        # A frame that trickles is not.
        data, _ = opened.prepare({"send": session.Send(room=world.room, body=b"x" * 1_000)})
        await trickle(opened.talk, data, "timeout")
        # A hello that trickles is not, on either port.
        for port in ("front", "wake"):
            slow = await dora.dial(port)
            await trickle(slow.open(), wire.frame(dora.hello(slow)), "timeout")
        # A connection that never says anything is not.
        silent = await dora.dial()
        silent_stream = await dora.dial()
        silent_stream.open().write(b"\x00")
        for connection in (silent, silent_stream):
            end = await connection.closed()
            assert wire.code_name(end.code) == "timeout", end
        # At the gate neither.
        door = await Gate.open(world.system)
        request = wire.frame(wire.gate.GateRequest(version=1, enrol=dora.enrol_request(door.statement)))
        await trickle(door.connection.open(), request, "timeout")
    return note(times)


async def trickle(stream: transport.Stream, data: bytes, code: str) -> None:
    """Writes a byte every 100 ms until the server has had enough."""
    connection = stream.connection
    for byte in data:
        if connection.end:
            break
        stream.write(bytes([byte]))
        try:
            await connection.closed(limit_s=0.1)
        except TimeoutError:
            pass
    end = await connection.closed()
    assert end.by_application and wire.code_name(end.code) == code, end


async def idle(world: World):
    """a session that says nothing, though its socket lives: closed by the idle limit, not before"""
    dora = world.device("dora-slow")
    # What the steps before did may have been an emergency, in which a server is more patient, and for as long afterwards.
    await world.server.ctl("emergency", "off", "--reason", "the usual limits", "--for", "60s")
    await asyncio.sleep(PATIENCE_S)
    async with undisturbed(world) as times:
        opened = await dora.session()
        assert opened.welcome.posture == common.POSTURE_NORMAL
        opened.fall_silent()
        began = time.monotonic()
        while not opened.connection.end and time.monotonic() - began < 10:
            try:
                async with asyncio.timeout(0.5):
                    await opened.connection.ping()  # QUIC's own: it proves a socket, not an app
            except (TimeoutError, ConnectionError):
                pass
        end = await opened.connection.closed()
        took = time.monotonic() - began
        assert wire.code_name(end.code) == "idle" and opened.go_away and opened.go_away.reconnect, end
        assert 3.5 < took < 7, f"it took {took:.1f} s"
        await opened.leave()
    return note(times)


async def stops_reading(world: World):
    """a client that stops reading: cut off or behind, and everybody else goes on; then it catches up"""
    dora = await world.enrolled("dora-deaf")
    deaf = await dora.session(window=16_384)
    chatter = await (await world.enrolled("chatter")).session()
    room = (await chatter.ask(open_direct=session.OpenDirect(peer="dora-deaf"))).room
    deaf.connection.stop_reading()
    async with undisturbed(world) as times:
        body = os.urandom(8_192)
        for _ in range(200):
            head = (await chatter.send(room, body)).seq
        # Its heartbeats still come, so only its not reading can end it.
        end = await deaf.connection.closed(limit_s=20)
        assert end.by_application and wire.code_name(end.code) == "slow_reader", end
        await deaf.leave()
        back = await dora.session()
        found, after, more = 0, 0, True
        while more:
            batch = await back.ask_bulk(sync=session.Sync(room=room, after=after, limit=1_000))
            found, more = found + len(batch.messages), batch.more
            after = batch.messages[-1].seq
        assert found == after == head == 200
        await back.leave()
    await chatter.leave()
    return note(times)


async def falls_behind(world: World):
    """a client that was away for more than its mailbox holds: it is told so, and the log has everything"""
    dora = world.device("dora-deaf")
    opened = await dora.session()
    chatter = await world.device("chatter").session()
    room = (await chatter.ask(open_direct=session.OpenDirect(peer="dora-deaf"))).room
    last = opened.events[-1].no if opened.events else 0
    opened.vanish()
    async with undisturbed(world) as times:
        for _ in range(60):
            head = (await chatter.send(room, os.urandom(8_192))).seq
        back = await dora.session(resume=opened.welcome.resume, seen=last)
        if back.welcome.resumed:
            await back.until(lambda: any(e.HasField("behind") for e in back.events))
        rooms = (await back.ask_bulk(list_rooms=session.ListRooms())).rooms
        assert next(r.head for r in rooms if r.room == room) == head
        await back.leave()
    await chatter.leave()
    return note(times)


async def memory(world: World):
    """after all that the server is in good health, and its memory is bounded"""
    used = world.server.memory_bytes()
    assert world.server.healthy()
    assert used < 400 << 20, f"{used >> 20} MiB"
    return f"{used >> 20} MiB resident"


STEPS = [half_open, noise, byte_by_byte, idle, stops_reading, falls_behind, memory]
