//! The steps of a connection, and the budget that all ladders share.

use std::collections::VecDeque;

use crate::watch::json::{At, Event};

/// How many bytes of one event's payload are kept.
const PAYLOAD: usize = 4096;

/// One event of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: At,
    pub(crate) event: Event,
}

impl Step {
    fn payload(&self) -> usize {
        match &self.event {
            Event::Data {
                payload: Some(payload),
                ..
            } => payload.0.len(),
            _ => 0,
        }
    }

    /// Cuts a payload that is too long.
    fn trim(&mut self) {
        if let Event::Data {
            payload: Some(payload),
            cut,
            ..
        } = &mut self.event
            && payload.0.len() > PAYLOAD
        {
            payload.0.truncate(PAYLOAD);
            payload.0.shrink_to_fit();
            *cut = true;
        }
    }
}

/// The steps of a connection, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ladder {
    steps: VecDeque<(u64, Step)>,
    forgotten: u64,
}

impl Ladder {
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().map(|(_, step)| step)
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// How many steps before the first one are not kept.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The number of the oldest step that is kept.
    fn first(&self) -> Option<u64> {
        self.steps.front().map(|(number, _)| *number)
    }
}

/// How much all ladders hold, and which step came first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    /// Each step that was added: its connection and its number. Some have gone meanwhile.
    order: VecDeque<(u64, u64)>,
    next: u64,
    steps: usize,
    payload: usize,
}

impl Budget {
    /// Adds a step to the ladder of the connection `id`, which keeps at most `bound`.
    pub(super) fn add(&mut self, id: u64, ladder: &mut Ladder, mut step: Step, bound: usize) {
        step.trim();
        self.payload += step.payload();
        self.steps += 1;
        ladder.steps.push_back((self.next, step));
        self.order.push_back((id, self.next));
        self.next += 1;
        if ladder.len() > bound {
            self.drop_first(ladder);
        }
    }

    /// Returns the oldest step, as long as there are too many, or too many bytes.
    pub(super) fn excess(&mut self, steps: usize, payload: usize) -> Option<(u64, u64)> {
        match self.steps > steps || self.payload > payload {
            true => self.order.pop_front(),
            false => None,
        }
    }

    /// Drops the step of this number, if its ladder still has it.
    pub(super) fn drop_step(&mut self, ladder: Option<&mut Ladder>, number: u64) {
        if let Some(ladder) = ladder
            && ladder.first() == Some(number)
        {
            self.drop_first(ladder);
        }
    }

    /// Takes a whole ladder out of the budget.
    pub(super) fn remove(&mut self, ladder: &mut Ladder) {
        while ladder.len() > 0 {
            self.drop_first(ladder);
        }
    }

    /// Forgets the order of steps that have gone, once there are many of them.
    pub(super) fn compact<'l>(
        &mut self,
        steps: usize,
        ladder: impl Fn(&u64) -> Option<&'l Ladder>,
    ) {
        if self.order.len() > 2 * steps {
            let is_kept = |(id, number): &(u64, u64)| {
                let first = ladder(id).and_then(Ladder::first);
                first.is_some_and(|first| first <= *number)
            };
            self.order.retain(is_kept);
        }
    }

    fn drop_first(&mut self, ladder: &mut Ladder) {
        if let Some((_, step)) = ladder.steps.pop_front() {
            self.steps -= 1;
            self.payload -= step.payload();
            ladder.forgotten += 1;
        }
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.order.len()
    }
}
