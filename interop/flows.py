"""The ordinary life of devices: enrol, enter, talk, come back. Each function is a step; its docstring is its name."""

import asyncio
import hmac
import re
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import client
import wire
from client import Device, Gate, Refused, client_id
from server import Server
from wire import common, session


class World:
    """What the steps share."""

    def __init__(self, server: Server):
        self.server, self.system = server, None
        self.devices: dict[str, Device] = {}
        self.sessions: dict[str, client.Session] = {}
        self.room = b""
        self.group = b""

    def device(self, name: str) -> Device:
        return self.devices[name]

    def on(self, name: str) -> client.Session:
        return self.sessions[name]

    async def enrolled(self, user: str, label: str | None = None, **right) -> Device:
        device = Device(self.system, user)
        await device.enrol(**right)
        self.devices[label or user] = device
        return device

    async def online(self, label: str, **options) -> client.Session:
        self.sessions[label] = await self.devices[label].session(**options)
        return self.sessions[label]

    async def close(self) -> None:
        for opened in self.sessions.values():
            await opened.leave()


async def refused(name: str, awaitable):
    """The awaitable must be refused with this code; the refusal."""
    try:
        got = await awaitable
    except Refused as refusal:
        assert refusal.name == name, f"expected {name}, got {refusal}"
        assert refusal.refusal.detail, "a refusal says what to do"
        return refusal.refusal
    raise AssertionError(f"expected the refusal {name}, got {got}")


async def vectors(world: World):
    """the page's test vectors: the signature, the device's id, the session proof, the frame"""
    section = (wire.ROOT / "docs" / "protocol.md").read_text().partition("\n## Test vectors\n")[2]
    given = {name: bytes.fromhex(value) for name, value in re.findall(r"^(\w+) += ([0-9a-f]+)$", section, re.M)}
    key = Ed25519PrivateKey.from_private_bytes(given["device_secret_key"])
    device = Device(None, "vector", key=key)
    assert device.public_key == given["device_key"] and device.id == given["device_id"]
    assert client.GATE_PREFIX + given["sha256_gate_exporter"] == given["gate_statement"]
    assert key.sign(given["gate_statement"]) == given["gate_proof"]
    mac = hmac.new(given["proof_key"], client.SESSION_PREFIX + given["sha256_session_exporter"], "sha256")
    assert mac.digest() == given["session_proof"]
    request = session.Request(id=7, deadline_ms=1000, ping=session.Ping())
    assert wire.frame(session.ClientFrame(request=request)) == given["frame_ping"]


async def enrol(world: World):
    """enrol: a device key becomes a device of a new user"""
    for user in ("alice", "bob", "carol"):
        device = Device(world.system, user)
        enrolled = await device.enrol()
        assert enrolled.user == user and enrolled.device == device.id
        assert 0 < len(enrolled.credential) <= 1024
        assert enrolled.credential_expires_ms / 1000 > time.time() + 3600
        world.devices[user] = device


async def enrol_again(world: World):
    """enrol: the same device may repeat itself, on one connection with other requests"""
    alice = world.device("alice")
    async with await Gate.open(world.system) as door:
        for _ in range(2):
            enrolled = await door.ask(enrol=alice.enrol_request(door.statement))
            assert enrolled.device == alice.id
        proof = alice.key.sign(door.statement)
        ticket = await door.ask(enter=wire.gate.Enter(credential=enrolled.credential, proof=proof))
        assert ticket.ticket


async def enter(world: World):
    """enter: a credential becomes a ticket with its proof key and addresses"""
    for device in world.devices.values():
        ticket = await device.enter()
        assert 0 < len(ticket.ticket) <= 1024 and len(ticket.proof_key) == 32
        assert 60_000 <= ticket.valid_ms <= 86_400_000
        assert 1 <= len(ticket.addresses) <= 3
        address = ticket.addresses[0]
        assert (address.front, address.wake) == (world.system.front, world.system.wake)


async def hello(world: World):
    """hello: the ticket opens a session; the welcome has the limits of the page"""
    alice = await world.online("alice")
    welcome = alice.welcome
    assert welcome.user == "alice" and welcome.device == world.device("alice").id
    assert len(welcome.session) == 16 and not welcome.resumed
    assert 0 < len(welcome.resume) <= 1024 and welcome.resume_valid_ms > 0
    limits = welcome.limits
    assert (limits.frame_bytes, limits.body_bytes, limits.in_flight, limits.bulk_streams) == (65_536, 16_384, 256, 3)
    assert (welcome.ping_interval_ms, welcome.idle_limit_ms) == (1000, 4000)
    assert abs(welcome.now_ms / 1000 - time.time()) < 60
    assert welcome.posture == common.POSTURE_NORMAL


async def ping(world: World):
    """ping: the pong has the server's clock"""
    pong = await world.on("alice").ask(ping=session.Ping())
    assert abs(pong.now_ms / 1000 - time.time()) < 60


async def pipelined(world: World):
    """hello on the wake port, with requests in the same flight"""
    ops = [{"ping": session.Ping()}, {"list_rooms": session.ListRooms()}, {"list_devices": session.ListDevices()}]
    options = {"app_state": common.APP_STATE_BACKGROUND, "reason": common.REASON_WOKEN}
    bob = await world.online("bob", port="wake", behind_hello=ops, **options)
    pong, rooms, devices = (client.result(answer) for answer in bob.behind_hello)
    assert pong.now_ms and not rooms.rooms
    assert [d.device for d in devices.devices] == [world.device("bob").id] and devices.devices[0].current
    await bob.ask(set_app_state=session.SetAppState(state=common.APP_STATE_FOREGROUND))


async def open_direct(world: World):
    """open a direct room: the same for both, and the one that the page computes"""
    seen_by_alice = await world.on("alice").ask(open_direct=session.OpenDirect(peer="bob"))
    seen_by_bob = await world.on("bob").ask(open_direct=session.OpenDirect(peer="alice"))
    assert seen_by_alice.room == seen_by_bob.room == client.direct_room("alice", "bob")
    assert seen_by_alice.kind == session.ROOM_KIND_DIRECT
    assert (seen_by_alice.peer, seen_by_bob.peer) == ("bob", "alice")
    assert seen_by_alice.head == 0 and seen_by_alice.members == 2
    changed = await world.on("bob").until(
        lambda: next((e.room for e in world.on("bob").events if e.HasField("room")), None)
    )
    assert changed.room == seen_by_bob.room and changed.role == session.ROLE_MEMBER
    world.room = seen_by_alice.room


async def send(world: World):
    """send: a receipt for the sender, a delivery for the other one"""
    alice, bob = world.on("alice"), world.on("bob")
    name = client_id()
    receipt = await alice.send(world.room, "good morning, Grüße, 안녕", client_id=name)
    assert receipt.room == world.room and receipt.seq == 1 and not receipt.duplicate
    delivery = await bob.delivered(world.room, 1)
    message = delivery.message
    assert (message.sender, message.body.decode()) == ("alice", "good morning, Grüße, 안녕")
    assert message.client_id == name and message.sent_at_ms == receipt.sent_at_ms and delivery.notify
    numbers = [e.no for e in bob.events]
    assert numbers == list(range(1, len(numbers) + 1)), f"events are numbered without a hole: {numbers}"


async def duplicate(world: World):
    """send again with the same client id: the receipt of the first one"""
    alice = world.on("alice")
    name = client_id()
    first = await alice.send(world.room, "once", client_id=name)
    again = await alice.send(world.room, "once", client_id=name)
    assert again.duplicate and not first.duplicate
    assert (again.seq, again.sent_at_ms) == (first.seq, first.sent_at_ms)
    both = await alice.ask_all([{"send": session.Send(room=world.room, client_id=name, body=b"once")}] * 5)
    assert {client.result(answer).seq for answer in both} == {first.seq}


async def order(world: World):
    """200 sends in one flight: sequences in the order of sending, deliveries in the order of the room"""
    alice, bob = world.on("alice"), world.on("bob")
    ops = [{"send": session.Send(room=world.room, client_id=client_id(), body=b"%d" % i)} for i in range(200)]
    sequences = [client.result(answer).seq for answer in await alice.ask_all(ops)]
    assert sequences == list(range(sequences[0], sequences[0] + 200)), sequences
    await bob.delivered(world.room, sequences[-1])
    delivered = [e.delivery.message.seq for e in bob.events if e.HasField("delivery")]
    assert delivered == list(range(1, sequences[-1] + 1))
    bob.tell_seen()


async def sync(world: World):
    """sync and history on bulk streams: pages without a hole, own messages included"""
    bob = world.on("bob")
    after, found = 0, []
    while True:
        batch = await bob.ask_bulk(sync=session.Sync(room=world.room, after=after, limit=70))
        found += batch.messages
        if not batch.more:
            break
        after = batch.messages[-1].seq
    assert [m.seq for m in found] == list(range(1, batch.head + 1)) and batch.first == 1
    assert {m.sender for m in found} == {"alice"}
    newest = await bob.ask_bulk(history=session.History(room=world.room, limit=3))
    assert [m.seq for m in newest.messages] == [batch.head, batch.head - 1, batch.head - 2] and newest.more
    oldest = await bob.ask_bulk(history=session.History(room=world.room, before=3))
    assert [m.seq for m in oldest.messages] == [2, 1] and not oldest.more
    empty = await bob.ask(sync=session.Sync(room=world.room, after=batch.head))
    assert not empty.messages and not empty.more and empty.head == batch.head


async def bulk_stream_stays(world: World):
    """a bulk stream serves several requests, one after another"""
    alice = world.on("alice")
    stream = alice.connection.open()
    flight = b""
    for number in (901, 902, 903):
        request = session.Request(id=number, sync=session.Sync(room=world.room, limit=1))
        flight += wire.frame(session.ClientFrame(request=request))
    stream.write(flight)
    answers = [session.ServerFrame.FromString(await stream.frame()).answer for _ in range(3)]
    assert [a.id for a in answers] == [901, 902, 903] and all(a.HasField("batch") for a in answers)
    stream.write(b"", end=True)
    assert await stream.frame() is None


async def largest(world: World):
    """the largest body passes, byte for byte"""
    body = bytes(i * 7 % 256 for i in range(16_384))
    receipt = await world.on("alice").send(world.room, body)
    assert (await world.on("bob").delivered(world.room, receipt.seq)).message.body == body


async def cursors(world: World):
    """mark: the other one learns how far one has read; cursors never go back"""
    alice, bob = world.on("alice"), world.on("bob")
    await bob.ask(mark=session.Mark(cursors=[session.Cursor(room=world.room, delivered=20, read=10)]))
    moved = await alice.until(lambda: next((e.cursor for e in alice.events if e.cursor.read == 10), None))
    assert (moved.room, moved.user, moved.delivered) == (world.room, "bob", 20)
    await bob.ask(mark=session.Mark(cursors=[session.Cursor(room=world.room, delivered=5, read=5)]))
    room = await bob.ask(describe_room=session.DescribeRoom(room=world.room))
    assert (room.delivered, room.read) == (20, 10)
    members = (await alice.ask(list_members=session.ListMembers(room=world.room))).members
    assert [(m.user, m.read) for m in members if m.user == "bob"] == [("bob", 10)]
    await refused("bad_field", bob.ask(mark=session.Mark(cursors=[session.Cursor(room=world.room, read=10**9)])))


async def group(world: World):
    """a group: create (again with the same id), invite, join, mention, count readers"""
    alice, bob = world.on("alice"), world.on("bob")
    request = session.CreateRoom(client_id=client_id(), title="lunch", members=["bob"])
    room = await alice.ask(create_room=request)
    assert (await alice.ask(create_room=request)).room == room.room == client.group_room("alice", request.client_id)
    assert room.kind == session.ROOM_KIND_GROUP and room.role == session.ROLE_OWNER and room.head == 1
    world.group = room.room
    created = (await bob.delivered(world.group, 1)).message.membership
    assert created.change == session.Membership.CHANGE_CREATED and created.title == "lunch"
    assert sorted(created.users) == ["alice", "bob"]
    await alice.send(world.group, "before carol")
    await bob.ask(invite=session.Invite(room=world.group, users=["carol"]))
    carol = await world.online("carol")
    listed = (await carol.ask(list_rooms=session.ListRooms())).rooms
    assert [(r.room, r.role, r.head) for r in listed] == [(world.group, session.ROLE_INVITED, 0)]
    await refused("not_a_member", carol.ask(sync=session.Sync(room=world.group)))
    joined = await carol.ask(join=session.Join(room=world.group))
    assert joined.role == session.ROLE_MEMBER and joined.first == joined.head
    receipt = await alice.send(world.group, "hello carol", mentions=["carol"])
    assert list((await carol.delivered(world.group, receipt.seq)).message.mentions) == ["carol"]
    batch = await carol.ask(sync=session.Sync(room=world.group))
    assert batch.first == joined.first and batch.messages[0].membership.change == session.Membership.CHANGE_JOINED
    counts = await alice.ask(read_counts=session.ReadCounts(room=world.group, to=receipt.seq, **{"from": receipt.seq}))
    assert list(counts.unread) == [2]
    await carol.ask(mark=session.Mark(cursors=[session.Cursor(room=world.group, read=receipt.seq)]))
    counts = await alice.ask(read_counts=session.ReadCounts(room=world.group, to=receipt.seq, **{"from": receipt.seq}))
    assert list(counts.unread) == [1]


async def removed(world: World):
    """kick and leave: who is out gets nothing and reads nothing"""
    alice, bob, carol = world.on("alice"), world.on("bob"), world.on("carol")
    await refused("not_allowed", bob.ask(kick=session.Kick(room=world.group, user="carol")))
    await alice.ask(kick=session.Kick(room=world.group, user="carol"))
    out = lambda: any(e.room.room == world.group and e.room.role == session.ROLE_UNSPECIFIED for e in carol.events)
    await carol.until(out)
    receipt = await alice.send(world.group, "without carol")
    await bob.delivered(world.group, receipt.seq)
    await refused("not_a_member", carol.ask(sync=session.Sync(room=world.group)))
    await refused("not_a_member", carol.send(world.group, "still here?"))
    await refused("not_invited", carol.ask(join=session.Join(room=world.group)))
    # A later answer has passed the same session, so a delivery would have come by now.
    await carol.ask(ping=session.Ping())
    assert all(e.delivery.message.seq != receipt.seq for e in carol.events if e.HasField("delivery"))
    await alice.ask(leave=session.Leave(room=world.group))
    described = await bob.ask(describe_room=session.DescribeRoom(room=world.group))
    assert described.role == session.ROLE_OWNER and described.members == 1


async def settings(world: World):
    """notification settings and blocks"""
    alice, bob = world.on("alice"), world.on("bob")
    quiet = session.NotifySettings(mode=session.NOTIFY_MODE_NONE)
    await bob.ask(set_notify=session.SetNotify(room=world.room, settings=quiet))
    receipt = await alice.send(world.room, "psst")
    assert not (await bob.delivered(world.room, receipt.seq)).notify
    await bob.ask(set_block=session.SetBlock(user="alice", blocked=True))
    assert list((await bob.ask(list_blocked=session.ListBlocked())).users) == ["alice"]
    await refused("blocked", alice.send(world.room, "do you hear me?"))
    await bob.ask(set_block=session.SetBlock(user="alice", blocked=False))
    await alice.send(world.room, "again friends")


async def second_device(world: World):
    """a second device by a one-time code: both see everything"""
    alice, bob = world.on("alice"), world.on("bob")
    made = await alice.ask(make_code=session.MakeCode())
    assert made.code and made.valid_ms > 0
    await world.enrolled("alice", label="alice's tablet", code=made.code)
    tablet = await world.online("alice's tablet")
    devices = (await tablet.ask(list_devices=session.ListDevices())).devices
    assert len(devices) == 2 and sum(d.current for d in devices) == 1
    mine = await alice.send(world.room, "from the phone")
    delivery = await tablet.delivered(world.room, mine.seq)
    assert delivery.message.sender == "alice" and not delivery.notify
    theirs = await bob.send(world.room, "to both")
    await asyncio.gather(alice.delivered(world.room, theirs.seq), tablet.delivered(world.room, theirs.seq))
    assert all(e.delivery.message.seq != mine.seq for e in alice.events if e.HasField("delivery"))
    await refused("bad_code", Device(world.system, "alice").enrol(code=made.code))


async def move(world: World):
    """the phone changes its network: the session goes on from another address"""
    alice = world.on("alice")
    await alice.connection.move()
    await alice.ask(ping=session.Ping())
    receipt = await world.on("bob").send(world.room, "where are you?")
    await alice.delivered(world.room, receipt.seq)


async def key_update(world: World):
    """a QUIC key update in the middle of a session"""
    alice = world.on("alice")
    # The server changes the keys by itself once, somewhere within its first thousand packets (so does any server on quinn). RFC 9001, 6.1,
    # forbids to change them again before something under the new ones was acknowledged; aioquic would do it all the same, and then
    # neither side can read the other. A ping that leaves the keys as they are says that they are settled.
    phase = None
    while phase != (phase := alice.connection.key_phase()):
        await alice.ask(ping=session.Ping())
    alice.connection.request_key_update()
    for _ in range(3):
        await alice.ask(ping=session.Ping())
    assert alice.connection.key_phase() != phase


async def resume(world: World):
    """resume: the session goes on, and what was missed follows with the next numbers"""
    alice, bob = world.on("alice"), world.on("bob")
    await bob.ask(ping=session.Ping())
    last, number = bob.events[-1].no, bob.welcome.session
    bob.vanish()
    receipts = [await alice.send(world.room, f"missed {i}") for i in range(3)]
    again = await world.device("bob").session(resume=bob.welcome.resume, seen=last)
    world.sessions["bob"] = again
    assert again.welcome.resumed and again.welcome.session == number
    await again.delivered(world.room, receipts[-1].seq)
    missed = [e.delivery.message.seq for e in again.events if e.HasField("delivery")]
    assert missed == [r.seq for r in receipts], missed
    assert [e.no for e in again.events] == list(range(last + 1, last + 1 + len(again.events)))
    again.tell_seen()


async def resume_with_a_gap(world: World):
    """resume of what is not kept any more: a new session in the same round trip, and the log fills the gap"""
    bob = world.on("bob")
    bob.vanish()
    again = await world.device("bob").session(resume=bob.welcome.resume, seen=10**6)
    world.sessions["bob"] = again
    assert not again.welcome.resumed
    rooms = (await again.ask_bulk(list_rooms=session.ListRooms())).rooms
    head = next(r.head for r in rooms if r.room == world.room)
    batch = await again.ask_bulk(sync=session.Sync(room=world.room, after=head - 2))
    assert [m.seq for m in batch.messages] == [head - 1, head]


async def ends(world: World):
    """a client that finishes its talk stream still gets its answers; then the session is over for good"""
    leaving = await world.device("carol").session()
    data, wait = leaving.prepare({"list_rooms": session.ListRooms()})
    leaving.talk.write(data, end=True)
    assert client.result(await asyncio.wait_for(wait, 10)) is not None
    await leaving.until(lambda: leaving.talk.ended)
    await leaving.leave()
    again = await world.device("carol").session(resume=leaving.welcome.resume, seen=0)
    assert not again.welcome.resumed and again.welcome.session != leaving.welcome.session
    world.sessions["carol"] = again


async def replaced(world: World):
    """a newer session of the same device: the older one is told, and ends"""
    older = world.on("carol")
    newer = await world.device("carol").session()
    world.sessions["carol"] = newer
    end = await older.connection.closed()
    assert older.go_away and wire.code_name(older.go_away.code) == "replaced" and not older.go_away.reconnect
    assert end.by_application and wire.code_name(end.code) == "replaced"
    await newer.ask(ping=session.Ping())


async def revoked(world: World):
    """revoke a device: it is out within a second, and stays out"""
    tablet = world.sessions.pop("alice's tablet")
    began = time.monotonic()
    await world.on("alice").ask(revoke_device=session.RevokeDevice(device=world.device("alice's tablet").id))
    told = await tablet.until(lambda: tablet.go_away)
    took = time.monotonic() - began
    assert took < 1.0, f"it took {took:.2f} s"
    assert wire.code_name(told.code) == "revoked" and not told.reconnect
    assert wire.code_name((await tablet.connection.closed()).code) == "revoked"
    await refused("revoked", world.device("alice's tablet").enter())
    await refused("revoked", world.device("alice's tablet").session())


async def goes_away(world: World):
    """the server is stopped: every session is told to come back, then its connection is closed"""
    sessions = list(world.sessions.values())
    world.server.terminate()
    for opened in sessions:
        end = await opened.connection.closed()
        assert opened.go_away and wire.code_name(opened.go_away.code) == "draining" and opened.go_away.reconnect, (
            f"{opened.device.user}: {opened.go_away}, {opened.connection.end}"
        )
        assert wire.code_name(end.code) == "draining", end
    code = await asyncio.wait_for(world.server.process.wait(), 20)
    assert code == 0, f"the server ended with {code}"


STEPS = [
    vectors, enrol, enrol_again, enter, hello, ping, pipelined, open_direct, send, duplicate, order, sync, bulk_stream_stays,
    largest, cursors, group, removed, settings, second_device, move, key_update, resume, resume_with_a_gap, ends,
    replaced, revoked,
]  # fmt: skip
LAST_STEPS = [goes_away]
