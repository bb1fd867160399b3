//! What is done to the relay, and when: drawn before a run starts, so that a part of it can be left
//! out without another thing changing.

use std::fmt;

use fastrand::Rng;

use crate::plan::{Fault, Plan, chance, pick};

/// One run, before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// After so many steps everything heals.
    pub(crate) steps: u32,
    /// What is done, each with its step, in order.
    pub(crate) deeds: Vec<(u32, Deed)>,
}

/// Something that somebody does at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The application writes something.
    Write,
    /// Something goes wrong.
    Strike(Fault),
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("the application writes"),
            Self::Strike(fault) => write!(f, "{fault:?}"),
        }
    }
}

impl Case {
    /// The whole run of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let steps = rng.u32(300..2_200);
        let mut deeds = Vec::new();
        for step in 0..steps {
            if rng.u32(0..1_000) < plan.fault_rate {
                let fault = pick(&mut rng, &Fault::ALL);
                if plan.has(fault) && fault.strikes() {
                    deeds.push((step, Deed::Strike(fault)));
                }
            }
            if chance(&mut rng, plan.writes) {
                deeds.push((step, Deed::Write));
            }
        }
        Self {
            seed,
            plan,
            steps,
            deeds,
        }
    }

    /// The same without a kind of fault.
    pub(crate) fn without(&self, fault: Fault) -> Self {
        let mut case = self.clone();
        case.plan.leave_out(fault);
        case.deeds.retain(|(_, deed)| *deed != Deed::Strike(fault));
        case
    }

    /// The random numbers of a step depend on nothing that was drawn before it.
    pub(crate) fn rng(&self, step: u32) -> Rng {
        // As splitmix64 does it: seeds that are near each other have nothing in common.
        let mut mixed = self.seed ^ (u64::from(step) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Rng::with_seed(mixed ^ (mixed >> 31))
    }
}
