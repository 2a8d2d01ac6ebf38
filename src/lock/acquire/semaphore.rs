//! What is different where a lock has several holders: whom to name, whose limit is another, and what the first in line
//! watches.

use std::time::Duration;

use super::wait::{AGAIN, QUICK, QUICK_IN_A_ROW};
use super::watch::Watches;
use super::{Attempt, TIMEOUT};
use crate::clock::Moment;
use crate::consul::Read;
use crate::lock::error::Error;
use crate::lock::notice::{Holder, Notice};
use crate::lock::slots;
use crate::lock::standing::Standing;

impl Attempt<'_> {
    /// Who of the holders is to be named: one that waits for us only if nothing comes free before it, since that would
    /// never be.
    pub(super) fn whom(&self, holders: Vec<Holder>) -> Result<Holder, Error> {
        let waits_for_us = |holder: &Holder| self.options.ancestors.contains(&holder.session);
        if !self.options.ancestors.is_empty() && self.told.is_none() {
            // Whoever has the key, or comes to have it before us, waits for a reader that waits for us.
            let reader = self.readers().inside(&self.list_readers()).iter().filter_map(Holder::of).find(waits_for_us);
            if let Some(reader) = reader {
                return Ok(reader);
            }
        }
        let other = holders.iter().find(|holder| !waits_for_us(holder)).or(holders.first());
        other.cloned().ok_or_else(|| Error::refused(&self.client, self.key.as_str(), "it is held by nobody"))
    }

    /// As far as they can be seen: without them it is waited for what may never be.
    fn list_readers(&self) -> Vec<crate::consul::Entry> {
        let listing = self.client.list(&self.readers().prefix, Read::Consistent, TIMEOUT);
        listing.map_or_else(|_| Vec::new(), |listing| listing.entries)
    }

    /// Tells of a holder with another limit than ours: together they are more than one of them thinks.
    pub(super) fn compare_limits(&mut self, standings: &[Standing]) {
        let ours = self.slots();
        let other = standings.iter().find_map(|standing| match standing {
            Standing::Held(holder) => {
                Some((holder, holder.record.as_ref()?.limit)).filter(|(_, theirs)| *theirs != ours)
            }
            _ => None,
        });
        if let Some((holder, theirs)) = other
            && !std::mem::replace(&mut self.told_limit, true)
        {
            (self.tell)(Notice::OtherLimit { key: self.key.clone(), holder: holder.clone(), theirs, ours });
        }
    }

    /// Blocks until a slot changes from what it was at the indexes of the key and of what is below it, or a lock delay may
    /// be over.
    pub(super) fn block_on_slots(&mut self, indexes: [u64; 2]) -> Result<(), Error> {
        let mut wait = self.third();
        for bound in [self.time_left(), self.delay.left(Moment::now())].into_iter().flatten() {
            wait = wait.min(bound);
        }
        let wait = wait.max(Duration::from_millis(10));
        let (key, prefix) = (self.key.as_str(), slots::prefix(self.key));
        let mut watches = self.watches.take().unwrap_or_else(|| Watches::new(&self.client));
        let (client, begun) = (watches.client(), Moment::now());
        let answer = self.stop.interruptible(&client, |_| watches.wait(key, &prefix, indexes, wait));
        self.watches = Some(watches);
        let Some(answer) = answer? else { return Ok(self.stop.pause(AGAIN.min(wait))?) };
        match answer.result {
            Ok((asked, answered)) => {
                self.patience.answered();
                let in_vain = answered <= asked && Moment::now().since(begun) < QUICK.min(wait);
                self.quick = if in_vain { self.quick.saturating_add(1) } else { 0 };
                if self.quick > QUICK_IN_A_ROW {
                    self.stop.pause(self.time_left().map_or(AGAIN, |left| left.min(AGAIN)))?;
                }
                Ok(())
            }
            Err(error) => self.retry_later(error, answer.sent),
        }
    }
}
