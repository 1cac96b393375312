//! Whether a head says that a call went well: as much of HPACK (RFC 7541) as that takes.
//!
//! Texts are compared as they are written, never decoded; of the dynamic table it is only kept which entries are a
//! `grpc-status`, and which of these say 0.

use std::collections::VecDeque;

/// `grpc-status` in Huffman's code.
const STATUS: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
/// No entry older than this fits into a table of 4 KiB.
const ENTRIES: usize = 128;
const STATIC: usize = 61;

#[derive(Clone, Copy, Default)]
struct Entry {
    is_status: bool,
    is_ok: bool,
}

/// The heads of one connection, in order.
#[derive(Default)]
pub struct Heads {
    table: VecDeque<Entry>,
}

impl Heads {
    /// Whether this one has `grpc-status: 0`.
    pub fn take(&mut self, mut block: &[u8]) -> bool {
        let mut ok = false;
        while let Some(first) = block.first().copied() {
            let entry = match first {
                0x80.. => {
                    let index = number(&mut block, 7);
                    self.known(index)
                }
                0x20..=0x3f => {
                    number(&mut block, 5);
                    continue;
                }
                _ => {
                    let (bits, kept) = if first & 0x40 != 0 { (6, true) } else { (4, false) };
                    let index = number(&mut block, bits);
                    let is_status = match index {
                        0 => [&STATUS[..], b"grpc-status"].contains(&text(&mut block)),
                        _ => self.known(index).is_status,
                    };
                    // In Huffman's code 0 is this byte.
                    let is_zero = [&b"0"[..], &[0x07]].contains(&text(&mut block));
                    let entry = Entry { is_status, is_ok: is_status && is_zero };
                    if kept {
                        self.table.push_front(entry);
                        self.table.truncate(ENTRIES);
                    }
                    entry
                }
            };
            ok |= entry.is_ok;
        }
        ok
    }

    fn known(&self, index: usize) -> Entry {
        index.checked_sub(STATIC + 1).and_then(|at| self.table.get(at)).copied().unwrap_or_default()
    }
}

fn number(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut number = usize::from(block[0]) & most;
    *block = &block[1..];
    if number == most {
        for shift in (0..).step_by(7) {
            let byte = block[0];
            *block = &block[1..];
            number += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
    }
    number
}

fn text<'a>(block: &mut &'a [u8]) -> &'a [u8] {
    let length = number(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    text
}
