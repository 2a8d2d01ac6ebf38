//! The proof that a lock is still ours. What stands between us and Consul may answer from memory, and the state of a held
//! key never changes: an old answer that shows it held by us reads like a new one. So each confirmation asks for a key
//! that nobody has ever asked for, beside checking the session, in one transaction that a quorum vouches for. Consul
//! refuses it every time, and names the key in the refusal: only an answer made for this very request can do that.

use std::time::Duration;

use super::key::Key;
use crate::consul::{Client, Error, Op, RefusalReason, SessionId, Txn};

/// What Consul says to a challenge, in an answer that is no older than the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session holds the key.
    Ours,
    /// It does not.
    NotOurs,
}

/// Why a challenge proved nothing.
#[derive(Debug)]
pub(super) enum Unproven {
    /// No answer of Consul's.
    Failed(Error),
    /// Consul refused the question itself, in these words.
    Refused(String),
    /// An answer to something else.
    Replayed,
}

/// Asks whether `session` holds `key` (HTTP API: Transactions, `check-session` and `get`). Nothing is written, and the
/// token needs to read no more than `key`: to a denied `get`, too, Consul answers that the key does not exist.
pub(super) fn challenge(
    client: &Client,
    key: &Key,
    session: &SessionId,
    timeout: Duration,
) -> Result<Verdict, Unproven> {
    // Short, and at the beginning of Consul's answer, however long the lock's own key is.
    let unheard_of = format!(".nonce/{:016x}", fastrand::u64(..));
    let ops = [Op::CheckSession { key: key.as_str(), session }, Op::Get { key: &unheard_of }];
    let answer = client.txn(&ops, timeout).map_err(Unproven::Failed)?;
    judge(&answer, &unheard_of)
}

fn judge(answer: &Txn, unheard_of: &str) -> Result<Verdict, Unproven> {
    let refusals = match answer {
        // The key is not quite unheard of: drawn twice by chance, and written by whoever guessed it.
        Txn::Done(entries) if entries.iter().any(|entry| entry.key == unheard_of) => return Ok(Verdict::Ours),
        Txn::Done(_) => return Err(Unproven::Replayed),
        Txn::Refused(refusals) => refusals,
    };
    if !refusals.iter().any(|refusal| refusal.op_index == 1 && refusal.what.contains(unheard_of)) {
        // A denial comes before everything else, and alone.
        let denied = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied);
        return Err(denied.map_or(Unproven::Replayed, |denied| Unproven::Refused(denied.what.clone())));
    }
    match refusals.iter().find(|refusal| refusal.op_index == 0) {
        None => Ok(Verdict::Ours),
        Some(refusal) if matches!(refusal.reason, RefusalReason::SessionMismatch | RefusalReason::Missing) => {
            Ok(Verdict::NotOurs)
        }
        Some(refusal) => Err(Unproven::Refused(refusal.what.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Refusal;

    const NONCE: &str = ".nonce/0123456789abcdef";

    fn refused(texts: &[(usize, RefusalReason, &str)]) -> Txn {
        let refusal = |(op_index, reason, what): &(usize, RefusalReason, &str)| Refusal {
            op_index: *op_index,
            reason: *reason,
            what: (*what).to_owned(),
        };
        Txn::Refused(texts.iter().map(refusal).collect())
    }

    #[test]
    fn only_an_answer_that_names_the_unheard_of_key_proves_anything() {
        let missing = (1, RefusalReason::Missing, r#"key ".nonce/0123456789abcdef" doesn't exist"#);
        assert_eq!(judge(&refused(&[missing]), NONCE).expect("proven"), Verdict::Ours);
        let other =
            (0, RefusalReason::SessionMismatch, r#"failed session check for key "a", current session "" != "b""#);
        assert_eq!(judge(&refused(&[other, missing]), NONCE).expect("proven"), Verdict::NotOurs);
        let gone = (0, RefusalReason::Missing, r#"failed to check session, key "a" doesn't exist"#);
        assert_eq!(judge(&refused(&[gone, missing]), NONCE).expect("proven"), Verdict::NotOurs);

        let earlier = (1, RefusalReason::Missing, r#"key ".nonce/fedcba9876543210" doesn't exist"#);
        for answer in [refused(&[earlier]), refused(&[other, earlier]), Txn::Done(Vec::new())] {
            assert!(matches!(judge(&answer, NONCE), Err(Unproven::Replayed)), "{answer:?}");
        }
    }

    #[test]
    fn a_denial_is_neither_a_proof_nor_a_loss() {
        let denied = (0, RefusalReason::Denied, "Permission denied");
        assert!(
            matches!(judge(&refused(&[denied]), NONCE), Err(Unproven::Refused(what)) if what == "Permission denied")
        );
    }
}
