//! Leaves out steps whose results nothing reads, and fields that only those read.

use std::collections::{HashMap, HashSet};

use super::{
    super::expression::{Compiled, Place},
    Call, End, Plan, Stage, Step,
};

/// Reduces every stage, and the fields that are read of a record.
pub(super) fn reduce(plan: &mut Plan) {
    for stage in &mut plan.stages {
        reduce_stage(stage);
    }
    let Some(first) = plan.stages.first_mut() else { return };
    let mut read = Vec::new();
    let mut numbers = HashMap::new();
    visit(first, &mut |place| {
        if let Place::Input(index) = place {
            *index = *numbers.entry(*index).or_insert_with(|| {
                read.push(*index);
                read.len() - 1
            });
        }
    });
    plan.columns = read.iter().filter_map(|&index| plan.columns.get(index).cloned()).collect();
}

fn reduce_stage(stage: &mut Stage) {
    let mut live = HashSet::new();
    visit_end(&mut stage.end, &mut |place| {
        live.insert(*place);
    });
    let is_live = |slot: usize, live: &HashSet<_>| live.contains(&Place::Computed(slot));
    let mut kept: Vec<Step> = Vec::new();
    for mut step in std::mem::take(&mut stage.steps).into_iter().rev() {
        let expr = match &mut step {
            Step::Filter(expr) => Some(expr),
            Step::Compute { slot, expr } => is_live(*slot, &live).then_some(expr),
            Step::Parse(parse) => {
                for slot in &mut parse.slots {
                    *slot = slot.filter(|&slot| is_live(slot, &live));
                }
                let last = parse.slots.iter().rposition(Option::is_some);
                parse.slots.truncate(last.map_or(0, |last| last + 1));
                last.map(|_| &mut parse.source)
            }
        };
        if let Some(expr) = expr {
            expr.places(&mut |place| {
                live.insert(*place);
            });
            kept.push(step);
        }
    }
    kept.reverse();
    stage.steps = kept;
    renumber(stage, &live);
}

/// Leaves no room for computed values that nothing reads.
fn renumber(stage: &mut Stage, live: &HashSet<Place>) {
    let old = (0..stage.width).filter(|slot| live.contains(&Place::Computed(*slot)));
    let numbers: HashMap<usize, usize> = old.zip(0..).collect();
    let renumbered = |slot: usize| numbers.get(&slot).copied().unwrap_or(slot);
    for step in &mut stage.steps {
        match step {
            Step::Filter(_) => {}
            Step::Compute { slot, .. } => *slot = renumbered(*slot),
            Step::Parse(parse) => parse.slots.iter_mut().flatten().for_each(|slot| *slot = renumbered(*slot)),
        }
    }
    visit(stage, &mut |place| {
        if let Place::Computed(slot) = place {
            *slot = renumbered(*slot);
        }
    });
    stage.width = numbers.len();
}

fn visit(stage: &mut Stage, place: &mut dyn FnMut(&mut Place)) {
    for step in &mut stage.steps {
        match step {
            Step::Filter(expr) | Step::Compute { expr, .. } => expr.places(place),
            Step::Parse(parse) => parse.source.places(place),
        }
    }
    visit_end(&mut stage.end, place);
}

fn visit_end(end: &mut End, place: &mut dyn FnMut(&mut Place)) {
    let mut each = |exprs: &mut [Compiled]| exprs.iter_mut().for_each(|expr| expr.places(place));
    match end {
        End::Collect(collect) => {
            collect.keys.iter_mut().for_each(|(key, _)| each(std::slice::from_mut(key)));
            each(&mut collect.distinct);
            each(&mut collect.kept);
        }
        // Its columns see groups, not rows.
        End::Group(group) => {
            each(&mut group.keys);
            for Call { argument, time, .. } in &mut group.aggregates {
                [argument, time].into_iter().flatten().for_each(|expr| each(std::slice::from_mut(expr)));
            }
        }
    }
}
