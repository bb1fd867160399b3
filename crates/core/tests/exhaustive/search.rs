//! Breadth first through all states, and the proof that every path ends well.

use std::collections::HashMap;
use std::ops::AddAssign;

use crate::model::{Action, Model, Setting, State};

/// What a complete search met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// States of the core alone.
    pub(crate) cores: usize,
    /// States in which nothing more happens by itself.
    pub(crate) rests: usize,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.transitions += other.transitions;
        self.cores += other.cores;
        self.rests += other.rests;
    }
}

/// A broken promise, and the shortest way there.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) promise: String,
    pub(crate) path: Vec<Action>,
}

/// All states that can be reached, in the order in which they were met.
#[derive(Debug)]
struct Search {
    model: Model,
    states: Vec<State>,
    numbers: HashMap<State, u32>,
    /// How each state was met first.
    parents: Vec<Option<(u32, Action)>>,
    /// Steps that have to happen in the end, from state to state.
    steps: Vec<(u32, u32)>,
    figures: Figures,
}

/// Visits every state. Then no promise is broken on any path; and as the steps that have to happen
/// make no circle and the states without one are checked, every path that goes on ends well.
pub(crate) fn search(setting: Setting) -> Result<Figures, Broken> {
    let mut model = Model::new(setting);
    let initial = model.initial();
    let mut search = Search {
        model,
        states: vec![initial],
        numbers: HashMap::from([(initial, 0)]),
        parents: vec![None],
        steps: Vec::new(),
        figures: Figures::default(),
    };
    let mut next = 0;
    while next < search.states.len() {
        search.expand(number(next))?;
        next += 1;
    }
    search.check_progress()?;
    let Search {
        model,
        states,
        mut figures,
        ..
    } = search;
    figures.states = states.len();
    figures.cores = model.cores.count();
    Ok(figures)
}

impl Search {
    fn expand(&mut self, from: u32) -> Result<(), Broken> {
        let state = self.states[from as usize];
        let mut rests = true;
        for (action, must_happen, to) in self.model.successors(&state) {
            self.figures.transitions += 1;
            let to = to.map_err(|promise| self.broken(promise, from, Some(action)))?;
            let number = *self.numbers.entry(to).or_insert(number(self.states.len()));
            if number as usize == self.states.len() {
                self.states.push(to);
                self.parents.push(Some((from, action)));
            }
            if must_happen && number != from {
                rests = false;
                self.steps.push((from, number));
            }
        }
        if rests {
            self.figures.rests += 1;
            let rested = self.model.check_rest(&state);
            rested.map_err(|promise| self.broken(promise, from, None))?;
        }
        Ok(())
    }

    /// Takes away states that nothing leads to, again and again: what is left goes round in a
    /// circle.
    fn check_progress(&self) -> Result<(), Broken> {
        let mut incoming = vec![0_u32; self.states.len()];
        let mut outgoing = self.steps.clone();
        outgoing.sort_unstable();
        for (_, to) in &outgoing {
            incoming[*to as usize] += 1;
        }
        let is_free = |(number, count): (usize, &u32)| (*count == 0).then_some(number);
        let mut free: Vec<usize> = incoming.iter().enumerate().filter_map(is_free).collect();
        let mut taken = 0;
        while let Some(number) = free.pop() {
            taken += 1;
            let start = outgoing.partition_point(|(from, _)| (*from as usize) < number);
            let steps = outgoing[start..].iter();
            for (_, to) in steps.take_while(|(from, _)| *from as usize == number) {
                incoming[*to as usize] -= 1;
                if incoming[*to as usize] == 0 {
                    free.push(*to as usize);
                }
            }
        }
        if taken == self.states.len() {
            return Ok(());
        }
        let circle = incoming.iter().position(|count| *count > 0);
        let circle = number(circle.unwrap_or_default());
        Err(self.broken("it goes round in a circle".to_owned(), circle, None))
    }

    fn broken(&self, promise: String, at: u32, last: Option<Action>) -> Broken {
        let mut path: Vec<_> = last.into_iter().collect();
        let mut at = at;
        while let Some((parent, action)) = self.parents[at as usize] {
            path.push(action);
            at = parent;
        }
        path.reverse();
        Broken { promise, path }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("memory ends before")
}
