//! The smallest schedule that still breaks the same invariant: what a person wants to read.
//!
//! Every step draws its own random numbers, so whatever is left out changes nothing but its own
//! consequences. First the end is cut off, then whole kinds of faults go, then single deeds, in
//! halves and quarters down to one (delta debugging, ddmin), until nothing more can go.

use std::fmt;

use crate::runner::{Broken, run};
use crate::schedule::Case;

/// So many steps are taken at most, over all runs: seconds.
const STEPS_MAX: u64 = 10_000_000;

/// What is left of a case, and how it fails.
#[derive(Debug)]
pub(crate) struct Shrunk {
    pub(crate) case: Case,
    pub(crate) broken: Broken,
    whole: Case,
    runs: u32,
    steps: u64,
}

impl Shrunk {
    /// Shrinks a case that fails.
    pub(crate) fn of(case: Case, broken: Broken) -> Self {
        let mut shrunk = Self {
            whole: case.clone(),
            case,
            broken,
            runs: 0,
            steps: 0,
        };
        loop {
            let before = shrunk.size();
            shrunk.cut_off();
            shrunk.drop_kinds();
            shrunk.drop_deeds();
            if shrunk.size() >= before || shrunk.steps >= STEPS_MAX {
                return shrunk;
            }
        }
    }

    fn size(&self) -> (usize, usize, u32) {
        let case = &self.case;
        (case.plan.faults().len(), case.deeds.len(), case.steps)
    }

    /// Takes the candidate if it breaks the same invariant.
    fn try_case(&mut self, candidate: Case) -> bool {
        if self.steps >= STEPS_MAX {
            return false;
        }
        let (world, broken) = run(candidate.clone(), false);
        self.runs += 1;
        self.steps += u64::from(world.step);
        let is_same = |broken: &Broken| broken.invariant() == self.broken.invariant();
        match broken.filter(is_same) {
            Some(broken) => {
                self.case = candidate;
                self.broken = broken;
                true
            }
            None => false,
        }
    }

    /// Everything heals sooner.
    fn cut_off(&mut self) {
        let mut cut = self.case.steps / 2;
        self.try_steps(self.broken.step.min(self.case.steps));
        while cut > 0 {
            if cut > self.case.steps || !self.try_steps(self.case.steps - cut) {
                cut /= 2;
            }
        }
    }

    fn try_steps(&mut self, steps: u32) -> bool {
        let mut candidate = self.case.clone();
        candidate.steps = steps;
        candidate.deeds.retain(|(step, _)| *step < steps);
        self.try_case(candidate)
    }

    fn drop_kinds(&mut self) {
        for fault in self.case.plan.faults().to_vec() {
            self.try_case(self.case.without(fault));
        }
    }

    fn drop_deeds(&mut self) {
        let mut size = self.case.deeds.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.case.deeds.len() {
                let until = (from + size).min(self.case.deeds.len());
                let mut candidate = self.case.clone();
                candidate.deeds.drain(from..until);
                if !self.try_case(candidate) {
                    from = until;
                }
            }
            size /= 2;
        }
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, whole) = (&self.case, &self.whole);
        writeln!(
            f,
            "seed {} breaks an invariant: {}",
            case.seed, self.broken.message
        )?;
        writeln!(
            f,
            "the smallest schedule that does, found in {} runs:\n  \
             {} of {} kinds of faults: {:?}\n  {} of {} steps, then everything heals\n  \
             {} of {} deeds:",
            self.runs,
            case.plan.faults().len(),
            whole.plan.faults().len(),
            case.plan.faults(),
            case.steps,
            whole.steps,
            case.deeds.len(),
            whole.deeds.len(),
        )?;
        for (step, deed) in &case.deeds {
            writeln!(f, "    step {step:>4}  {deed}")?;
        }
        write!(
            f,
            "  it is broken at step {}\nmake sim SEED={} shows all that happens in it",
            self.broken.step, case.seed
        )
    }
}
