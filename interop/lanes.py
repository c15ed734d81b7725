"""The bus lane: passes, slots and what a posture asks for. Each function is a step."""

import asyncio
import os
import re
import time

import client
import transport
import wire
from client import Device, Refused
from flows import World, refused
from refusals import tampered
from wire import common, gate, session

SILENCE_S = 1.0  # whoever is not answered in this time is not answered
BACKGROUND = common.APP_STATE_BACKGROUND
CONNECTION_REFUSED = 0x2  # RFC 9000, section 20.1
PUT_OFF = re.compile(r"busy retry_after_ms=(\d+)(?: slot=([0-9a-f]{40}))?")


async def is_silent(device: Device, mark: bytes | None, port: str = "front") -> bool:
    address = device.ticket.addresses[0]
    config = transport.configuration(client.ALPN_SESSION, device.system.ca, address.server_name)
    try:
        connection = await transport.connect(getattr(address, port), config, mark, limit_s=SILENCE_S)
    except TimeoutError:
        return True
    await connection.leave()
    return False


async def passes(world: World):
    """passes: a ticket brings some for its class, and the foreground port answers to nothing else"""
    device = await world.enrolled("lane-pass")
    ticket = await device.enter()
    marks = list(ticket.passes.marks)
    assert len(marks) >= 2 and len(set(marks)) == len(marks) and ticket.passes.valid_ms > 60_000
    assert all(len(mark) == 20 and mark[0] >> 6 == 0 for mark in marks)
    background = (await device.ask_for_ticket(BACKGROUND)).passes.marks
    assert background and all(mark[0] >> 6 == 1 for mark in background)
    assert not await is_silent(device, marks[0])
    silent = {
        "nothing": None, "what is no mark": os.urandom(8), "a random mark": os.urandom(20), "a used pass": marks[0],
        "a forged pass": tampered(marks[1]), "a pass of the other port": background[0],
    }  # fmt: skip
    outcomes = await asyncio.gather(*(is_silent(device, mark) for mark in silent.values()))
    assert all(outcomes), dict(zip(silent, outcomes, strict=True))
    assert not await is_silent(device, marks[1]), "what was ignored has used nothing up"


async def wake_without(world: World):
    """the background port: no pass is needed, and a session there moves over when the app is opened"""
    device = world.device("lane-pass")
    assert not await is_silent(device, None, "wake")
    woken = await device.session("wake", app_state=BACKGROUND, reason=common.REASON_WOKEN)
    await woken.ask(set_app_state=session.SetAppState(state=common.APP_STATE_FOREGROUND))
    opened = await device.session("front", resume=woken.welcome.resume, seen=0)
    assert opened.welcome.resumed and opened.welcome.session == woken.welcome.session
    await woken.connection.closed()
    world.sessions["lane"] = opened
    await woken.leave()


async def advice(world: World):
    """advice: the welcome says all of it, and a session in the foreground gets passes"""
    welcome = world.on("lane").welcome
    told = welcome.advice
    assert told.posture == welcome.posture
    assert told.ping_interval_ms >= welcome.ping_interval_ms > 0
    assert told.idle_limit_ms > 2 * told.ping_interval_ms
    assert welcome.passes.marks and all(mark[0] >> 6 == 0 for mark in welcome.passes.marks)
    pong = await world.on("lane").ask(ping=session.Ping())
    assert pong.now_ms > 0


async def emergency(world: World):
    """an emergency that is ordered: sessions stay and are told, phones are put off and return in their slots"""
    device, lane = world.device("lane-pass"), world.on("lane")
    usual = lane.welcome.advice
    waiting = await world.enrolled("lane-wait")
    await waiting.enter(BACKGROUND)
    await world.server.ctl("emergency", "on", "--reason", "interop", "--for", "60s")
    try:
        postures = lambda: (e.posture for e in lane.events if e.HasField("posture"))
        told = await lane.until(lambda: next((p for p in postures() if p.posture == common.POSTURE_EMERGENCY), None))
        assert told.posture == told.advice.posture == common.POSTURE_EMERGENCY
        assert told.advice.ping_interval_ms >= 2 * usual.ping_interval_ms
        assert told.advice.idle_limit_ms >= 2 * usual.idle_limit_ms and told.advice.receipt_batch_ms > 0
        assert "message.send" not in told.advice.off
        pong = await lane.ask(ping=session.Ping())
        assert pong.posture == common.POSTURE_EMERGENCY, "pings are always answered"
        room = (await lane.ask(open_direct=session.OpenDirect(peer="alice"))).room
        assert (await lane.send(room, "in the middle of it")).seq
        assert (await device.ask_for_ticket()).ticket, "a person is never put off"
        at_gate = await slot_of_gate(world, waiting)
        at_door = await slot_of_manager(waiting)
    finally:
        await world.server.ctl("emergency", "auto", "--reason", "interop")
    return f"slots after {at_gate} ms and {at_door} ms"


async def slot_of_gate(world: World, device: Device) -> int:
    """The gateway puts off a phone, and lets it in with its slot, once."""
    busy = await put_off_at_gate(device)
    check_busy(busy)
    begun = time.monotonic()
    early = await refused("busy", enter_in(device, busy.slot)) if busy.retry_after_ms > 1_500 else None
    assert early is None or early.slot == busy.slot, "who comes early keeps the place"
    await refused("bad_slot", enter_in(device, tampered(busy.slot), shown=False))
    await asyncio.sleep(max(0, busy.retry_after_ms / 1000 - (time.monotonic() - begun)))
    ticket = await enter_in(device, busy.slot)
    assert ticket.ticket
    await refused("bad_slot", enter_in(device, busy.slot))
    # The same slot is good at the session manager behind the gateway.
    opened = await device.session_in(busy.slot)
    await opened.leave()
    return busy.retry_after_ms


async def put_off_at_gate(device: Device, limit_s: float = 5):
    """The gateway hears of a posture a moment after the sessions do."""
    until = time.monotonic() + limit_s
    while True:
        try:
            return await refused("busy", device.ask_for_ticket(BACKGROUND))
        except AssertionError:
            if time.monotonic() > until:
                raise


async def slot_of_manager(device: Device) -> int:
    """The session manager puts off a phone with a ticket, before or after the handshake, and lets it in with its slot."""
    retry_after_ms, slot = await put_off(device)
    assert retry_after_ms > 0 and len(slot) == 20
    await asyncio.sleep(retry_after_ms / 1000)
    opened = await device.session_in(slot)
    await opened.leave()
    return retry_after_ms


async def put_off(device: Device) -> tuple[int, bytes]:
    # Whoever shows a pass may get what those with a slot leave over; a stranger gets a slot.
    device.passes.marks["wake"].clear()
    try:
        opened = await device.session("wake", app_state=BACKGROUND, reason=common.REASON_WOKEN)
    except Refused as refusal:
        assert refusal.name == "busy"
        check_busy(refusal.refusal)
        return refusal.refusal.retry_after_ms, refusal.refusal.slot
    except transport.Closed as end:
        assert not end.by_application and end.code == CONNECTION_REFUSED, end
        found = PUT_OFF.match(end.reason)
        assert found and found[2], end
        return int(found[1]), bytes.fromhex(found[2])
    await opened.leave()
    raise AssertionError("a new session of a phone that nobody looks at, in an emergency")


def check_busy(refusal) -> None:
    assert refusal.retryable and refusal.retry_after_ms > 0 and len(refusal.slot) == 20
    assert refusal.posture == common.POSTURE_EMERGENCY and 4 <= getattr(refusal, "class") <= 7
    assert refusal.level <= 1024


async def enter_in(device: Device, slot: bytes, shown: bool = True):
    """`Enter` with a slot, in the first packet and in the request."""
    async with await client.Gate.open(device.system, mark=slot if shown else None) as door:
        proof = device.key.sign(door.statement)
        request = gate.Enter(credential=device.credential, proof=proof, app_state=BACKGROUND, slot=slot)
        return await door.ask(enter=request)


STEPS = [passes, wake_without, advice, emergency]
