//! `room`: make rooms, come and go, see who is there.

use buslane_client::{Member, NotifyMode, NotifySettings, Role, Room, RoomKind};
use buslane_shared::id::{RoomId, UserId};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::connect::{ClientArgs, Connection, with_client};
use crate::failure::Failure;
use crate::output::{Output, printable};

const EXAMPLES: &str = "\
Examples:
  buslane room create \"Lunch\" --member bob --member carol --as alice
  buslane room list --as bob
  buslane room invite ROOM dave --as alice
  buslane room notify ROOM mentions --quiet 22:00-07:00 --as bob
  buslane send --room ROOM \"Noodles?\" --as alice";

/// Arguments of `room`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RoomArgs {
    #[command(subcommand)]
    command: RoomCommand,
}

#[derive(Debug, Subcommand)]
enum RoomCommand {
    /// The rooms you are in or invited to
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a group
    Create {
        /// What it is called, at most 128 characters
        title: String,
        /// Who is in it from the start besides you; may be repeated
        #[arg(long = "member", value_name = "NAME")]
        members: Vec<UserId>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Invite users
    Invite {
        /// The room
        room: RoomId,
        /// Whom
        #[arg(required = true)]
        users: Vec<UserId>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Accept an invitation
    Join(OneRoom),
    /// Leave a room
    Leave(OneRoom),
    /// Remove a member; needs the room's owner
    Kick {
        /// The room
        room: RoomId,
        /// Whom
        user: UserId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Who is in a room, and how far they have received and read
    Members(OneRoom),
    /// A room as you see it
    Describe(OneRoom),
    /// When you want to be notified of a room's messages
    Notify {
        /// The room
        room: RoomId,
        /// Of what
        mode: Mode,
        /// Never between these times, in UTC unless --utc-offset says otherwise
        #[arg(long, value_name = "HH:MM-HH:MM", value_parser = quiet_hours)]
        quiet: Option<(u32, u32)>,
        /// Minutes east of UTC for the quiet hours
        #[arg(long, value_name = "MINUTES", default_value_t = 0, allow_hyphen_values = true,
              value_parser = clap::value_parser!(i32).range(-840..=840))]
        utc_offset: i32,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
struct OneRoom {
    /// The room
    room: RoomId,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Every message
    All,
    /// Messages that mention you
    Mentions,
    /// Nothing
    None,
}

/// Runs `room`.
pub fn run(args: RoomArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        match args.command {
            RoomCommand::List { client } => with_client(&client, async |c| list(c, output).await).await,
            RoomCommand::Create { title, members, client } => {
                with_client(&client, async |c| {
                    let room = c.client.create_room(&title, &members).await.map_err(|e| c.explain(&e))?;
                    output.result(&room_json(&room), || format!("{} {}", room.id, printable(&room.title)))
                })
                .await
            }
            RoomCommand::Invite { room, users, client } => {
                with_client(&client, async |c| {
                    c.client.invite(room, &users).await.map_err(|e| c.explain(&e))?;
                    done(output, room, "invited")
                })
                .await
            }
            RoomCommand::Join(OneRoom { room, client }) => {
                with_client(&client, async |c| {
                    c.client.join(room).await.map_err(|e| c.explain(&e))?;
                    done(output, room, "joined")
                })
                .await
            }
            RoomCommand::Leave(OneRoom { room, client }) => {
                with_client(&client, async |c| {
                    c.client.leave(room).await.map_err(|e| c.explain(&e))?;
                    done(output, room, "left")
                })
                .await
            }
            RoomCommand::Kick { room, user, client } => {
                with_client(&client, async |c| {
                    c.client.kick(room, &user).await.map_err(|e| c.explain(&e))?;
                    done(output, room, "removed")
                })
                .await
            }
            RoomCommand::Members(OneRoom { room, client }) => {
                with_client(&client, async |c| members(c, room, output).await).await
            }
            RoomCommand::Describe(OneRoom { room, client }) => {
                with_client(&client, async |c| {
                    let room = c.client.describe_room(room).await.map_err(|e| c.explain(&e))?;
                    output.result(&room_json(&room), || describe(&room))
                })
                .await
            }
            RoomCommand::Notify { room, mode, quiet, utc_offset, client } => {
                let settings = settings(mode, quiet, utc_offset);
                with_client(&client, async |c| {
                    c.client.set_notify(room, settings).await.map_err(|e| c.explain(&e))?;
                    done(output, room, "set")
                })
                .await
            }
        }
    })
}

fn done(output: Output, room: RoomId, what: &str) -> Result<(), Failure> {
    output.result(&json!({"room": room.to_string(), "done": what}), || what.to_owned())
}

async fn list(connection: &Connection, output: Output) -> Result<(), Failure> {
    let rooms = connection.client.rooms().await.map_err(|e| connection.explain(&e))?;
    if output.json {
        let all: Vec<Value> = rooms.iter().map(room_json).collect();
        return output.result(&all, String::new);
    }
    if rooms.is_empty() {
        output.talk("no rooms yet: `buslane chat` or `buslane room create` makes one");
    }
    for room in &rooms {
        output.result(&(), || list_line(room))?;
    }
    Ok(())
}

fn list_line(room: &Room) -> String {
    let unread = room.head.saturating_sub(room.read.max(room.first.saturating_sub(1)));
    let news = match room.role {
        Role::Invited => "invited: `buslane room join` accepts".to_owned(),
        _ if unread > 0 => format!("{unread} unread"),
        _ => String::new(),
    };
    format!("{}  {:<24} {} members  {news}", room.id, name(room), room.members).trim_end().to_owned()
}

fn name(room: &Room) -> String {
    match &room.peer {
        Some(peer) => format!("with {peer}"),
        None => printable(&room.title).into_owned(),
    }
}

async fn members(connection: &Connection, room: RoomId, output: Output) -> Result<(), Failure> {
    let members = connection.client.members(room).await.map_err(|e| connection.explain(&e))?;
    if output.json {
        let all: Vec<Value> = members.iter().map(member_json).collect();
        return output.result(&all, String::new);
    }
    for m in &members {
        output.result(&(), || {
            format!("{:<24} {:<8} received {:>6}  read {:>6}", m.user, role_name(m.role), m.delivered, m.read)
        })?;
    }
    Ok(())
}

fn member_json(m: &Member) -> Value {
    json!({
        "user": m.user.as_str(), "role": role_name(m.role), "since": m.since,
        "delivered": m.delivered, "read": m.read,
    })
}

fn describe(room: &Room) -> String {
    format!(
        "{}\n{} ({})\nyou are {}\nmessages {} to {}, received {}, read {}\n{} members\nnotifications: {}",
        room.id,
        name(room),
        kind_name(room.kind),
        role_name(room.role),
        room.first,
        room.head,
        room.delivered,
        room.read,
        room.members,
        notify_sentence(&room.notify),
    )
}

/// A room as it is printed with `--json`.
pub fn room_json(room: &Room) -> Value {
    json!({
        "room": room.id.to_string(),
        "kind": kind_name(room.kind),
        "title": room.title,
        "peer": room.peer.as_ref().map(UserId::as_str),
        "head": room.head,
        "first": room.first,
        "delivered": room.delivered,
        "read": room.read,
        "members": room.members,
        "role": role_name(room.role),
        "notify": {
            "mode": mode_name(room.notify.mode()),
            "quiet_from": clock_time(room.notify.quiet_from),
            "quiet_to": clock_time(room.notify.quiet_to),
            "utc_offset": room.notify.utc_offset,
        },
    })
}

fn kind_name(kind: RoomKind) -> &'static str {
    match kind {
        RoomKind::Direct => "direct",
        RoomKind::Group => "group",
        RoomKind::Unspecified => "unknown",
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Member => "member",
        Role::Invited => "invited",
        Role::Unspecified => "unknown",
    }
}

fn mode_name(mode: NotifyMode) -> &'static str {
    match mode {
        NotifyMode::Unspecified | NotifyMode::All => "all",
        NotifyMode::Mentions => "mentions",
        NotifyMode::None => "none",
    }
}

fn notify_sentence(settings: &NotifySettings) -> String {
    let mode = mode_name(settings.mode());
    if settings.quiet_from == settings.quiet_to {
        return mode.to_owned();
    }
    let (from, to) = (clock_time(settings.quiet_from), clock_time(settings.quiet_to));
    format!("{mode}, quiet from {from} to {to} (UTC{:+} min)", settings.utc_offset)
}

fn settings(mode: Mode, quiet: Option<(u32, u32)>, utc_offset: i32) -> NotifySettings {
    let mode = match mode {
        Mode::All => NotifyMode::All,
        Mode::Mentions => NotifyMode::Mentions,
        Mode::None => NotifyMode::None,
    };
    let (quiet_from, quiet_to) = quiet.unwrap_or_default();
    NotifySettings { mode: mode.into(), quiet_from, quiet_to, utc_offset }
}

fn clock_time(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `22:00-07:00` in minutes after midnight.
fn quiet_hours(text: &str) -> Result<(u32, u32), String> {
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let parsed = text.split_once('-').and_then(|(from, to)| Some((minutes(from)?, minutes(to)?)));
    parsed.ok_or_else(|| "write it as 22:00-07:00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_are_minutes_after_midnight() {
        assert_eq!(quiet_hours("22:00-07:30"), Ok((1320, 450)));
        for wrong in ["", "22:00", "24:00-07:00", "22:60-07:00", "22-7", "a:b-c:d"] {
            assert!(quiet_hours(wrong).is_err(), "{wrong}");
        }
        assert_eq!((clock_time(1320).as_str(), clock_time(450).as_str()), ("22:00", "07:30"));
    }
}
