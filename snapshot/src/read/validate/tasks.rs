//! Compares a generation's statements about tasks with what the previous one left.

use super::Check;
use super::join::{Pair, join};
use crate::read::decode::carried::{CarriedTask, Carry};
use crate::wire::{Generation, TaskState};

impl Check<'_> {
    /// Checks that every task continues in the state in which it was left, and that none comes from nowhere.
    pub(super) fn tasks(&mut self, left: &Carry, said: &Carry, number: Generation) {
        for pair in join(&left.tasks, &said.tasks, |task| task.id.index) {
            match pair {
                Pair::Left(was) => {
                    let (id, name) = (was.id, &left.site(was.site).name);
                    self.say(format!("task {id} ({name}) lives on, and has no status"));
                }
                // A task that is older than the recording becomes known where it is first polled. If it was
                // recorded already and its status is missing, the first generation that lacks it shows that.
                Pair::Right(is) if is_first_met(is) => {}
                Pair::Right(is) => {
                    let (id, name) = (is.id, &said.site(is.site).name);
                    self.say(format!(
                        "task {id} ({name}) has a status; generation {number} left none of it"
                    ));
                }
                Pair::Both(was, is) => {
                    let id = is.id;
                    let mut differs =
                        |what: &str, is: &dyn std::fmt::Display, was: &dyn std::fmt::Display| {
                            self.say(format!(
                            "task {id} is stated {what} {is}; generation {number} left it {what} {was}"
                        ));
                        };
                    let (was_at, is_at) = (left.site(was.site), said.site(is.site));
                    if was.id != is.id {
                        differs("as", &is.id, &was.id);
                    } else if let (Some(is), Some(was)) = (is.sequence, was.sequence)
                        && is != was
                    {
                        differs("after transition", &is, &was);
                    } else if was.state != is.state {
                        differs("as", &is.state.name(), &was.state.name());
                    } else if was_at != is_at {
                        differs("with the name", &is_at.name, &was_at.name);
                    } else if is.woken && !was.woken {
                        self.say(format!(
                            "task {id} is stated as woken; up to generation {number} there is no \
                             wake for its next poll"
                        ));
                    }
                }
            }
        }
    }
}

/// Whether its owner may have discovered it here: the owner states it, idle, and nothing has woken it.
fn is_first_met(task: &CarriedTask) -> bool {
    task.sequence.is_some() && task.state == TaskState::Idle && !task.woken
}
