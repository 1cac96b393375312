//! The allocator of this program, which has several parts to play, and counts where memory is measured.
//!
//! The stock echo has the system's allocator, as a stock program has; everything else has the one that the service ships
//! with. Which it is must be settled before anything is allocated, so the first allocation looks at the command line.
#![allow(unsafe_code, reason = "an allocator is unsafe to write; this one only passes on what it is asked")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

const STOCK: u8 = 1;
const SHIPPED: u8 = 2;

static WHICH: AtomicU8 = AtomicU8::new(0);
static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

/// The bytes allocated and not freed since counting began, and the most there have been since [`reset_most`].
pub fn live() -> (i64, i64) {
    (LIVE.load(Ordering::Relaxed), MOST.load(Ordering::Relaxed))
}

pub fn count(on: bool) {
    COUNTING.store(on, Ordering::Relaxed);
}

pub fn reset_most() {
    MOST.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
}

struct Chosen;

impl Chosen {
    #[inline]
    fn is_stock() -> bool {
        match WHICH.load(Ordering::Relaxed) {
            STOCK => true,
            SHIPPED => false,
            _ => choose(),
        }
    }
}

/// Opening a short path and reading into an array allocates nothing.
#[cold]
fn choose() -> bool {
    let mut line = [0; 4096];
    let read = std::fs::File::open("/proc/self/cmdline").and_then(|mut file| file.read(&mut line)).unwrap_or(0);
    let role = line.get(..read).unwrap_or_default().split(|byte| *byte == 0).nth(1).unwrap_or_default();
    let stock = role == super::echo::ROLE.as_bytes();
    WHICH.store(if stock { STOCK } else { SHIPPED }, Ordering::Relaxed);
    stock
}

#[inline]
fn counted(by: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        let live = LIVE.fetch_add(by, Ordering::Relaxed) + by;
        MOST.fetch_max(live, Ordering::Relaxed);
    }
}

const fn bytes(size: usize) -> i64 {
    size as i64
}

// SAFETY: every call goes to one and the same allocator, whose contract is this trait's.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(bytes(layout.size()));
        if Self::is_stock() { unsafe { System.alloc(layout) } } else { unsafe { MiMalloc.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(bytes(layout.size()));
        if Self::is_stock() { unsafe { System.alloc_zeroed(layout) } } else { unsafe { MiMalloc.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        counted(-bytes(layout.size()));
        if Self::is_stock() { unsafe { System.dealloc(at, layout) } } else { unsafe { MiMalloc.dealloc(at, layout) } }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there at once while one is copied into the other.
        counted(bytes(size));
        counted(-bytes(layout.size()));
        if Self::is_stock() {
            unsafe { System.realloc(at, layout, size) }
        } else {
            unsafe { MiMalloc.realloc(at, layout, size) }
        }
    }
}
