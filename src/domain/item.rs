//! The items of an order: what each line said, what it resolved to, and what was done about it.
//!
//! Lists have up to a million lines, so items are kept column by column and shared, never copied. **Never-guess**: a
//! line that does not resolve is kept as it was received.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::Subject;
use super::locator::{Links, Resolution};
use super::protection::Category;

/// Many short texts in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.text.get(start..end)
    }
}

/// Texts of which most are the same as the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Repeated {
    /// Each with the place after its last.
    runs: Vec<(u32, Box<str>)>,
}

impl Repeated {
    fn push(&mut self, text: &str) {
        let end = self.runs.last().map_or(0, |(end, _)| *end).saturating_add(1);
        match self.runs.last_mut() {
            Some((last, same)) if **same == *text => *last = end,
            _ => self.runs.push((end, text.into())),
        }
    }

    fn get(&self, at: usize) -> Option<&str> {
        let run = self.runs.partition_point(|(end, _)| *end as usize <= at);
        self.runs.get(run).map(|(_, text)| &**text)
    }
}

/// Numbers of which most are the next after the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Consecutive {
    /// Where each run begins, and with which number.
    runs: Vec<(u32, u32)>,
    len: usize,
}

impl Consecutive {
    fn push(&mut self, number: u32) {
        let at = u32::try_from(self.len).unwrap_or(u32::MAX);
        let expected = self.runs.last().map(|(from, first)| first.wrapping_add(at - from));
        if expected != Some(number) {
            self.runs.push((at, number));
        }
        self.len += 1;
    }

    fn get(&self, at: usize) -> Option<u32> {
        let at = u32::try_from(at).ok().filter(|_| at < self.len)?;
        let run = self.runs.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        self.runs.get(run).map(|(from, first)| first.wrapping_add(at - from))
    }
}

/// One line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its line in the list as received.
    pub line: u32,
    /// As received.
    pub locator_type: &'a str,
    /// As received.
    pub locator: &'a str,
    /// What it names.
    pub resolution: Resolution,
    /// Why the desk declines it, if it does.
    pub decline_reason: Option<&'a str>,
}

/// A part of a list, as it was uploaded together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemChunk {
    lines: Consecutive,
    types: Repeated,
    locators: Texts,
    resolutions: Vec<Resolution>,
    decline_reasons: BTreeMap<u32, String>,
}

impl ItemChunk {
    /// Adds a line as received, resolving it by what the platform's links look like.
    pub fn receive(&mut self, line: u32, locator_type: &str, locator: &str, decline: Option<&str>, links: &Links) {
        let resolution = links.resolve(locator_type, locator);
        self.push(Item { line, locator_type, locator, resolution, decline_reason: decline });
    }

    /// Adds a line that was resolved before.
    pub fn push(&mut self, item: Item<'_>) {
        if let (Some(reason), Ok(at)) = (item.decline_reason, u32::try_from(self.lines.len)) {
            self.decline_reasons.insert(at, reason.to_owned());
        }
        self.lines.push(item.line);
        self.types.push(item.locator_type);
        self.locators.push(item.locator);
        self.resolutions.push(item.resolution);
    }

    /// Gives back the memory that was meant for more lines.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.lines.runs.shrink_to_fit();
        self.types.runs.shrink_to_fit();
        self.locators.text.shrink_to_fit();
        self.locators.ends.shrink_to_fit();
        self.resolutions.shrink_to_fit();
        self
    }

    /// How many lines it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lines.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.len == 0
    }

    /// The line at a position from 0.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Item<'_>> {
        Some(Item {
            line: self.lines.get(at)?,
            locator_type: self.types.get(at)?,
            locator: self.locators.get(at)?,
            resolution: *self.resolutions.get(at)?,
            decline_reason: u32::try_from(at).ok().and_then(|at| self.decline_reasons.get(&at)).map(String::as_str),
        })
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// A whole list: its parts, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    chunks: Vec<Arc<ItemChunk>>,
    len: usize,
}

impl Items {
    /// Adds a part at the end.
    pub fn push(&mut self, chunk: Arc<ItemChunk>) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// How many lines it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts.
    pub fn chunks(&self) -> impl Iterator<Item = &Arc<ItemChunk>> {
        self.chunks.iter()
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// What each line names, in order: one column only, for scans.
    pub fn resolutions(&self) -> impl Iterator<Item = Resolution> {
        self.chunks.iter().flat_map(|chunk| chunk.resolutions.iter().copied())
    }

    /// The line at a position from 0.
    #[must_use]
    pub fn get(&self, mut at: usize) -> Option<Item<'_>> {
        for chunk in &self.chunks {
            if at < chunk.len() {
                return chunk.get(at);
            }
            at -= chunk.len();
        }
        None
    }
}

/// What was done about an item when its order was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// Withheld in the order's territory.
    Withheld,
    /// Removed under the platform's own rules.
    RemovedOwnRules,
    /// Declined by the desk, for the reason the item carries.
    DeclinedByDesk,
    /// Declined because the account is protected.
    DeclinedProtected(Category),
    /// No action: it did not resolve.
    Unresolved,
    /// No action: it is nothing that can be withheld.
    Unsupported,
    /// No action: an earlier item names the same subject.
    Duplicate,
    /// Withheld although the account is protected, by the order's override.
    WithheldByOverride,
}

impl Disposition {
    /// Whether it makes its subject dark while the order is in force.
    #[must_use]
    pub const fn takes_effect(self) -> bool {
        matches!(self, Self::Withheld | Self::RemovedOwnRules | Self::WithheldByOverride)
    }
}

/// The subject of a resolution, if it has one.
#[must_use]
pub const fn subject_of(resolution: Resolution) -> Option<Subject> {
    match resolution {
        Resolution::Subject(subject) => Some(subject),
        Resolution::Unresolved(_) | Resolution::Unsupported(_) => None,
    }
}
