//! Work of one thread each, on all CPUs.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What `work` makes of each item, in the order of the items. There are as many at a time as there are CPUs.
pub(crate) fn per_cpu<'a, T: Sync, R: Send>(items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let left = Mutex::new(items.iter().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let turns = || std::iter::from_fn(next).map(|(place, item)| (place, work(item))).collect::<Vec<_>>();
    let mut done = thread::scope(|scope| {
        let threads: Vec<_> = (0..cpus.min(items.len())).map(|_| scope.spawn(turns)).collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.flatten().collect::<Vec<_>>()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_all_items_in_their_order() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(per_cpu(&items, |item| item * 2), (0..100).map(|item| item * 2).collect::<Vec<_>>());
        assert!(per_cpu(&[0; 0], |_| ()).is_empty());
    }
}
