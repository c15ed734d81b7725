//! The program, as in `linux/bpf_common.h`. It sees the datagram from its UDP header on.
//!
//! ```text
//! not of a handshake?                        take it
//! knocks as is usual, and is no first one?   take it: it belongs to a handshake that was let in
//! knocks?                                    take it if a random number is under the share of those who knock
//! otherwise                                  take it if a random number is under the share of strangers
//! ```

use buslane_shared::mark::KNOCK_AT;
use socket2::SockFilter;

use super::Hearing;

const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_SET: u16 = 0x45;
const A_TO_X: u16 = 0x07;
const X_TO_A: u16 = 0x87;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_RANDOM`: loading from there gives 32 random bits.
const RANDOM: u32 = 0xffff_f000 + 56;

const UDP_HEADER: u32 = 8;
/// First byte, version, length of the id.
const ID_AT: u32 = UDP_HEADER + 1 + 4 + 1;
const LONG: u32 = 0x80;
const KIND: u32 = 0x30;
const INITIAL: u32 = 0;
const WHOLE: u32 = u32::MAX;

/// At most this many: jumps go 255 instructions far.
const KNOCKS_MAX: usize = 64;

/// Instructions between the comparisons with the knocks and what is done with those who knock.
const STRANGER: u8 = 2;

pub(super) fn new(hearing: &Hearing) -> Vec<SockFilter> {
    let step = |code, argument| SockFilter::new(code, 0, 0, argument);
    let knocks = hearing.knocks.get(..KNOCKS_MAX).unwrap_or(&hearing.knocks);
    let count = knocks.len() as u8;
    // Where the last two instructions are, counted from the one after the first jump.
    let to_take = 4 + count + STRANGER + 4;
    let mut program = vec![
        step(LOAD_BYTE, UDP_HEADER),
        SockFilter::new(JUMP_IF_SET, 0, to_take, LONG),
        step(AND, KIND),
        step(A_TO_X, 0),
        step(LOAD_WORD, ID_AT + KNOCK_AT as u32 - 1),
        step(AND, 0x00ff_ffff),
    ];
    for (n, [a, b, c]) in (0u8..).zip(knocks) {
        let knock = u32::from_be_bytes([0, *a, *b, *c]);
        program.push(SockFilter::new(JUMP_IF_EQUAL, count - n - 1 + STRANGER, 0, knock));
    }
    // A stranger.
    program.extend([
        step(LOAD_WORD, RANDOM),
        SockFilter::new(JUMP_IF_GREATER, 5, 4, threshold(hearing.strangers)),
    ]);
    // Somebody who knocks.
    program.extend([
        step(X_TO_A, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, INITIAL),
        step(LOAD_WORD, RANDOM),
        SockFilter::new(JUMP_IF_GREATER, 1, 0, threshold(hearing.known)),
    ]);
    program.extend([step(RETURN, WHOLE), step(RETURN, 0)]);
    // Nobody is heard at all, not even one in four thousand million.
    if hearing.strangers <= 0.0
        && let Some(test) = program.get_mut(6 + usize::from(count) + 1)
    {
        *test = step(JUMP, 5);
    }
    program
}

fn threshold(share: f64) -> u32 {
    // A cast of a float saturates.
    (share * f64::from(u32::MAX)) as u32
}
