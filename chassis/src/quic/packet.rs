//! What shows of a packet to whoever has no key: its form, its version and its connection ids (RFC 8999).
//!
//! Total on any bytes: they come from anybody.

/// QUIC version 1, the only one that is spoken here.
pub(super) const VERSION: u32 = 1;

/// Smallest datagram that a client may begin a connection with (RFC 9000, 14.1).
pub(super) const FIRST_BYTES_MIN: usize = 1_200;

/// Longest connection id of version 1.
const ID_BYTES_MAX: usize = 20;

const LONG: u8 = 0x80;
const KIND: u8 = 0x30;
const INITIAL: u8 = 0;

/// The first packet of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Of a connection that is established.
    Short,
    /// Of a handshake.
    Long(Long<'a>),
    /// Nothing that a client sends.
    Broken,
}

/// A packet of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Long<'a> {
    pub(super) version: u32,
    first: u8,
    pub(super) to: &'a [u8],
    pub(super) from: &'a [u8],
}

impl<'a> Seen<'a> {
    pub(super) fn read(datagram: &'a [u8]) -> Self {
        match datagram.first() {
            Some(first) if first & LONG == 0 => Self::Short,
            _ => Self::long(datagram).map_or(Self::Broken, Self::Long),
        }
    }

    fn long(datagram: &'a [u8]) -> Option<Long<'a>> {
        let (&[first, v0, v1, v2, v3], ids) = datagram.split_first_chunk()?;
        let (to, ids) = id(ids)?;
        let (from, _) = id(ids)?;
        Some(Long { version: u32::from_be_bytes([v0, v1, v2, v3]), first, to, from })
    }
}

impl Long<'_> {
    /// Whether it may begin a connection. What other versions mean by a packet is theirs to say.
    pub(super) fn may_be_first(&self) -> bool {
        match self.version {
            0 => false,
            VERSION => self.first & KIND == INITIAL,
            _ => true,
        }
    }
}

fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length > ID_BYTES_MAX { None } else { rest.split_at_checked(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let initial = [&[0xc3, 0, 0, 0, 1, 3, 7, 8, 9, 1, 5][..], &[0; 20]].concat();
        let Seen::Long(long) = Seen::read(&initial) else { panic!() };
        assert_eq!((long.version, long.to, long.from), (1, &[7, 8, 9][..], &[5][..]));
        assert!(long.may_be_first());
        for (first, version, may) in [(0xe3, 1, false), (0xd3, 1, false), (0xf3, 9, true), (0xc3, 0, false)] {
            let mut other = initial.clone();
            (other[0], other[4]) = (first, version);
            let Seen::Long(long) = Seen::read(&other) else { panic!() };
            assert_eq!(long.may_be_first(), may, "{first:x} {version}");
        }
        assert_eq!(Seen::read(&[0x40, 1]), Seen::Short);
        let too_long = [&[0xc3, 0, 0, 0, 1, 21][..], &[0; 60]].concat();
        assert_eq!(Seen::read(&too_long), Seen::Broken);
        for cut in 0..11 {
            assert_eq!(Seen::read(&initial[..cut]), Seen::Broken, "{cut}");
        }
    }
}
