//! What a token may do to a key and to what this tool keeps below it, found out without writing anything. Consul vets
//! all operations of a transaction before it applies any, and names each that is denied; so one that cannot succeed
//! asks for all of them at once. It reads a key that nobody has ever heard of, and its writes are deletions of keys last
//! changed at index 0, which no key ever was: each is enough by itself that nothing happens.

use std::time::Duration;

use super::key::Key;
use crate::consul::{Client, Error, Op, Read, RefusalReason, Txn};

/// What a token may do to one key, or to those below one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Read and write.
    Write,
    /// Read, not write; with Consul's own words.
    Read(String),
    /// Neither; with Consul's own words.
    Neither(String),
}

/// What a token may do to a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The key itself.
    pub key: Permission,
    /// `KEY/.queue/`: a place in the line of those who wait.
    pub queue: Permission,
    /// `KEY/.slot/`: the slots of a semaphore.
    pub slots: Permission,
    /// `KEY/.read/`: the readers of a lock that is shared, whom everybody must see who takes it.
    pub readers: Permission,
}

impl Access {
    /// Asks Consul (HTTP API: Transactions; KV Store). Nothing is written, whatever the answer.
    ///
    /// # Errors
    /// [`Error`]; a denial is none, unless the token is denied everything.
    pub fn probe(client: &Client, key: &Key, timeout: Duration) -> Result<Self, Error> {
        let (mark, unheard_of) = (fastrand::u64(..), format!(".nonce/{:016x}", fastrand::u64(..)));
        let below = [".queue", ".slot", ".read"].map(|part| format!("{key}/{part}/"));
        let entries = below.each_ref().map(|prefix| format!("{prefix}{mark:016x}"));
        let keys = [key.as_str(), &entries[0], &entries[1], &entries[2]];
        let mut ops = vec![Op::Get { key: &unheard_of }];
        for key in keys {
            ops.extend([Op::DeleteCas { key, index: 0 }, Op::CheckIndex { key, index: 0 }]);
        }
        let answer = client.txn(&ops, timeout)?;
        let permission = |number: usize| permission(&answer, 1 + 2 * number);
        let mut access =
            Self { key: permission(0), queue: permission(1), slots: permission(2), readers: permission(3) };
        // Where `acl.enable_key_list_policy` is set, reading keys is not enough to list them.
        for (prefix, permission) in below.iter().zip([&mut access.queue, &mut access.slots, &mut access.readers]) {
            if *permission == Permission::Write
                && let Err(error) = client.list(prefix, Read::Consistent, timeout)
            {
                let Error::Denied { body, .. } = error else { return Err(error) };
                *permission = Permission::Neither(body);
            }
        }
        Ok(access)
    }
}

/// What the answer says of a write, and of the read after it.
fn permission(answer: &Txn, write: usize) -> Permission {
    let refusals = match answer {
        Txn::Done(_) => &[][..],
        Txn::Refused(refusals) => refusals,
    };
    let denied = |index| {
        let denial =
            refusals.iter().find(|refusal| refusal.op_index == index && refusal.reason == RefusalReason::Denied);
        denial.map(|refusal| refusal.what.clone())
    };
    match (denied(write), denied(write + 1)) {
        (None, None) => Permission::Write,
        (Some(what), None) => Permission::Read(what),
        (_, Some(what)) => Permission::Neither(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Refusal;

    #[test]
    fn only_a_denial_of_the_very_operation_counts() {
        let refusal = |op_index, reason| Refusal { op_index, reason, what: "so it says".into() };
        let what = || "so it says".to_owned();
        let answer = Txn::Refused(vec![
            refusal(1, RefusalReason::IndexChanged),
            refusal(2, RefusalReason::Missing),
            refusal(3, RefusalReason::Denied),
            refusal(5, RefusalReason::Denied),
            refusal(6, RefusalReason::Denied),
        ]);
        assert_eq!(permission(&answer, 1), Permission::Write);
        assert_eq!(permission(&answer, 3), Permission::Read(what()));
        assert_eq!(permission(&answer, 5), Permission::Neither(what()));
        assert_eq!(permission(&answer, 7), Permission::Write);
    }
}
