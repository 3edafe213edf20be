//! The allocator of the program `cofferdam-helper`.
//!
//! A helper lives in few pages, and each page that it touches first costs a page fault, of which a container has about as
//! many as its helpers touch pages. musl's allocator gives each size pages of its own and writes to all of them. This one
//! puts everything side by side, in the order in which it is asked for, and touches nothing but what it gives away.
//!
//! Freed memory is kept for the next request of the same size class; the newest piece goes back to the free space.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// The allocator of `cofferdam-helper`: it puts everything side by side, so that a helper touches few pages. It is for
/// programs that are helpers and nothing else, as memory that was freed serves requests of about the same size only.
#[derive(Debug)]
pub struct HelperAllocator {
    /// A helper has one thread, so this is never contended. It is what makes the type safe for programs that have more.
    locked: AtomicBool,
    heap: UnsafeCell<Heap>,
}

// SAFETY: `with_heap` gives out the heap to one thread at a time.
unsafe impl Sync for HelperAllocator {}

#[derive(Debug)]
struct Heap {
    /// The free space.
    from: usize,
    to: usize,
    /// The first free piece of each class. A free piece begins with the address of the next one.
    free: [*mut u8; CLASSES],
}

/// Every size and address is a multiple of this; more is aligned on request.
const GRAIN: usize = 16;
/// How much address space is mapped at once. The kernel provides a page when it is touched.
const CHUNK: usize = 1 << 20;
/// Classes of sizes up to this are one grain apart; above, four to a doubling.
const LINEAR: usize = 256;
const CLASSES: usize = LINEAR / GRAIN + 4 * (usize::BITS - LINEAR.trailing_zeros()) as usize;

/// The class of a size, and the size of its pieces; `None` if that is more than memory has.
fn class_of(size: usize) -> Option<(usize, usize)> {
    if size <= LINEAR {
        let grains = size.div_ceil(GRAIN).max(1);
        return Some((grains - 1, grains * GRAIN));
    }
    // 2^log < size <= 2^(log + 1), divided into four.
    let log = (size - 1).ilog2();
    let quarter = 1 << (log - 2);
    let steps = (size - (1 << log)).div_ceil(quarter);
    let rounded =
        (1_usize << log).checked_add(steps * quarter).filter(|size| *size <= isize::MAX as usize)?;
    let doublings = (log - LINEAR.trailing_zeros()) as usize;
    Some((LINEAR / GRAIN + 4 * doublings + steps - 1, rounded))
}

impl HelperAllocator {
    /// An allocator without memory yet.
    #[must_use]
    pub const fn new() -> Self {
        let heap = Heap { from: 0, to: 0, free: [null_mut(); CLASSES] };
        Self { locked: AtomicBool::new(false), heap: UnsafeCell::new(heap) }
    }

    // Not inlined, nor is the other: the calls are in every corner of the program, and copies of this code would make it a
    // third larger.
    #[inline(never)]
    fn take(&self, layout: Layout) -> *mut u8 {
        self.with_heap(|heap| heap.take(layout))
    }

    #[inline(never)]
    fn give(&self, piece: *mut u8, size: usize) {
        self.with_heap(|heap| heap.give(piece, size));
    }

    fn with_heap<T>(&self, work: impl FnOnce(&mut Heap) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held until the reference is gone, and `work` does not allocate.
        let done = work(unsafe { &mut *self.heap.get() });
        self.locked.store(false, Ordering::Release);
        done
    }
}

impl Default for HelperAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl Heap {
    fn take(&mut self, layout: Layout) -> *mut u8 {
        let Some((class, size)) = class_of(layout.size()) else { return null_mut() };
        let first = self.free[class];
        if !first.is_null() && first.addr().is_multiple_of(layout.align()) {
            // SAFETY: `give` wrote the address of the next free piece into this one, which nothing has used since.
            self.free[class] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        let align = layout.align().max(GRAIN);
        let fits = |heap: &Self| {
            let at = heap.from.checked_next_multiple_of(align)?;
            Some((at, at.checked_add(size).filter(|end| *end <= heap.to)?))
        };
        let (at, end) = match fits(self) {
            Some(place) => place,
            None => {
                let Some(wanted) = size.checked_add(align).map(|wanted| wanted.max(CHUNK)) else {
                    return null_mut();
                };
                let Some(chunk) = map(wanted) else { return null_mut() };
                // What is left of the chunk before is never touched again, and costs nothing.
                (self.from, self.to) = (chunk, chunk + wanted);
                match fits(self) {
                    Some(place) => place,
                    None => return null_mut(),
                }
            }
        };
        self.from = end;
        std::ptr::with_exposed_provenance_mut(at)
    }

    fn give(&mut self, piece: *mut u8, size: usize) {
        let Some((class, size)) = class_of(size) else { return };
        if piece.addr() + size == self.from {
            self.from = piece.addr();
            return;
        }
        // SAFETY: the piece was taken from this heap with this class, so it has room for an address at an aligned place,
        // and its owner has given it back.
        unsafe { piece.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = piece;
    }

    /// Makes the newest piece larger or smaller in place.
    fn resize_newest(&mut self, piece: *mut u8, old: usize, new: usize) -> bool {
        let (Some((_, old)), Some((_, new))) = (class_of(old), class_of(new)) else { return false };
        let Some(end) = piece.addr().checked_add(new) else { return false };
        let fits = piece.addr() + old == self.from && end <= self.to;
        if fits {
            self.from = end;
        }
        fits
    }
}

/// Maps memory that the kernel provides page by page.
fn map(size: usize) -> Option<usize> {
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping at a place that the kernel chooses changes no other memory.
    let mapped = unsafe { libc::mmap(null_mut(), size, access, flags, -1, 0) };
    (mapped != libc::MAP_FAILED).then(|| mapped.expose_provenance())
}

// SAFETY: pieces that are in use do not overlap, because each is cut off the free space or off a list to which its last
// owner gave it back. They are as long and as aligned as was asked for, and no method panics or allocates.
unsafe impl GlobalAlloc for HelperAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout)
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        self.give(piece, layout.size());
    }

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let same = class_of(layout.size()).is_some_and(|class| class_of(size) == Some(class));
        if same || self.with_heap(|heap| heap.resize_newest(piece, layout.size(), size)) {
            return piece;
        }
        let Ok(new) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        let moved = self.take(new);
        if !moved.is_null() {
            // SAFETY: both pieces have at least this length, and they do not overlap, since both are in use.
            unsafe { std::ptr::copy_nonoverlapping(piece, moved, layout.size().min(size)) };
            self.give(piece, layout.size());
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_sizes_and_wastes_a_quarter_at_most() {
        let mut last = (0, 16);
        for size in 1..70_000 {
            let (class, rounded) = class_of(size).unwrap();
            assert!(rounded >= size && rounded.is_multiple_of(GRAIN), "{size}: {rounded}");
            assert!(rounded <= size.next_multiple_of(GRAIN).max(size + size / 4), "{size}: {rounded}");
            assert_eq!((class == last.0), (rounded == last.1), "{size}");
            assert!(class == last.0 || class == last.0 + 1, "{size}");
            last = (class, rounded);
        }
        assert_eq!(class_of(usize::MAX), None);
        assert!(class_of(isize::MAX as usize / 2).unwrap().0 < CLASSES);
    }

    #[test]
    fn pieces_in_use_never_overlap_and_keep_what_is_in_them() {
        let allocator = HelperAllocator::new();
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut number = 1_u64;
        for round in 0..20_000_u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
            let (pick, size) = ((number >> 20) as usize, 1 + (number >> 40) as usize % 3000);
            let fill = (round % 251) as u8;
            if pick % 3 == 0 && !held.is_empty() {
                let (piece, layout, fill) = held.swap_remove(pick % held.len());
                // SAFETY: the piece is in use and has this length.
                let bytes = unsafe { std::slice::from_raw_parts(piece, layout.size()) };
                assert!(bytes.iter().all(|byte| *byte == fill), "round {round}");
                // SAFETY: it was allocated with this layout, and is not used after this.
                unsafe { allocator.dealloc(piece, layout) };
            } else if pick % 3 == 1 && !held.is_empty() {
                let index = pick % held.len();
                let (piece, layout, fill) = held[index];
                let kept = layout.size().min(size);
                // SAFETY: it was allocated with this layout, and only the result is used after this.
                let piece = unsafe { allocator.realloc(piece, layout, size) };
                // SAFETY: the piece is in use and at least this long.
                let bytes = unsafe { std::slice::from_raw_parts(piece, kept) };
                assert!(bytes.iter().all(|byte| *byte == fill), "round {round}");
                // SAFETY: the piece is in use and has this length.
                unsafe { piece.write_bytes(fill, size) };
                held[index] = (piece, Layout::from_size_align(size, layout.align()).unwrap(), fill);
            } else {
                let layout = Layout::from_size_align(size, 1 << (pick % 8)).unwrap();
                // SAFETY: the layout has a size.
                let piece = unsafe { allocator.alloc(layout) };
                assert!(piece.addr().is_multiple_of(layout.align()));
                // SAFETY: the piece is new and has this length.
                unsafe { piece.write_bytes(fill, size) };
                held.push((piece, layout, fill));
            }
        }
    }
}
