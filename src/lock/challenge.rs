//! The proof that a lock is still ours. What stands between us and Consul may answer from memory, and the state of a held
//! key never changes: an old answer that shows it held by us reads like a new one. So each confirmation asks for a key
//! that nobody has ever asked for, beside checking the session, in one transaction that a quorum vouches for. Consul
//! refuses it every time, and names the key in the refusal: only an answer made for this very request can do that.

use std::time::Duration;

use super::claim::Claim;
use crate::consul::{Client, Error, Op, RefusalReason, SessionId, Txn};

/// What is said of an answer that proves nothing because it was made for another question.
pub(super) const REPLAYED: &str = "an answer to something else, as a proxy or cache gives that repeats old ones";

/// What Consul says to a challenge, in an answer that is no older than the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session holds every key.
    Ours,
    /// It does not hold the key of the claim of this number, and maybe others.
    NotOurs(usize),
}

/// Why a challenge proved nothing.
#[derive(Debug)]
pub(super) enum Unproven {
    /// No answer of Consul's.
    Failed(Error),
    /// Consul refused the question itself, in these words, for the key of the claim of this number.
    Refused(usize, String),
    /// An answer to something else.
    Replayed,
}

/// Asks whether `session` holds every key of `claims` (HTTP API: Transactions, `check-session` and `get`). Nothing is
/// written, and the token needs to read no more than those keys: to a denied `get`, too, Consul answers that the key does
/// not exist.
pub(super) fn challenge(
    client: &Client,
    claims: &[Claim],
    session: &SessionId,
    timeout: Duration,
) -> Result<Verdict, Unproven> {
    // Short, and at the beginning of Consul's answer, however long the lock's own key is.
    let unheard_of = format!(".nonce/{:016x}", fastrand::u64(..));
    let checks = claims.iter().map(|claim| Op::CheckSession { key: claim.path(), session });
    let ops: Vec<_> = checks.chain([Op::Get { key: &unheard_of }]).collect();
    let answer = client.txn(&ops, timeout).map_err(Unproven::Failed)?;
    judge(&answer, claims.len(), &unheard_of)
}

/// The answer to `checks` checks and one read of what nobody has heard of.
fn judge(answer: &Txn, checks: usize, unheard_of: &str) -> Result<Verdict, Unproven> {
    let refusals = match answer {
        // The key is not quite unheard of: drawn twice by chance, and written by whoever guessed it.
        Txn::Done(entries) if entries.iter().any(|entry| entry.key == unheard_of) => return Ok(Verdict::Ours),
        Txn::Done(_) => return Err(Unproven::Replayed),
        Txn::Refused(refusals) => refusals,
    };
    if !refusals.iter().any(|refusal| refusal.op_index == checks && refusal.what.contains(unheard_of)) {
        // A denial comes before everything else, and alone.
        let denied = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied);
        return Err(denied.map_or(Unproven::Replayed, |denied| Unproven::Refused(denied.op_index, denied.what.clone())));
    }
    let is_loss = |reason| matches!(reason, RefusalReason::SessionMismatch | RefusalReason::Missing);
    let mut refused = refusals.iter().filter(|refusal| refusal.op_index < checks).peekable();
    let Some(&first) = refused.peek() else { return Ok(Verdict::Ours) };
    match refused.find(|refusal| is_loss(refusal.reason)) {
        Some(lost) => Ok(Verdict::NotOurs(lost.op_index)),
        None => Err(Unproven::Refused(first.op_index, first.what.clone())),
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
        assert_eq!(judge(&refused(&[missing]), 1, NONCE).expect("proven"), Verdict::Ours);
        let other =
            (0, RefusalReason::SessionMismatch, r#"failed session check for key "a", current session "" != "b""#);
        assert_eq!(judge(&refused(&[other, missing]), 1, NONCE).expect("proven"), Verdict::NotOurs(0));
        let gone = (0, RefusalReason::Missing, r#"failed to check session, key "a" doesn't exist"#);
        assert_eq!(judge(&refused(&[gone, missing]), 1, NONCE).expect("proven"), Verdict::NotOurs(0));

        let earlier = (1, RefusalReason::Missing, r#"key ".nonce/fedcba9876543210" doesn't exist"#);
        for answer in [refused(&[earlier]), refused(&[other, earlier]), Txn::Done(Vec::new())] {
            assert!(matches!(judge(&answer, 1, NONCE), Err(Unproven::Replayed)), "{answer:?}");
        }
    }

    #[test]
    fn of_several_keys_the_first_that_is_not_ours_is_named() {
        let missing = (3, RefusalReason::Missing, r#"key ".nonce/0123456789abcdef" doesn't exist"#);
        assert_eq!(judge(&refused(&[missing]), 3, NONCE).expect("proven"), Verdict::Ours);
        let gone = (1, RefusalReason::Missing, r#"failed to check session, key "b" doesn't exist"#);
        let taken =
            (2, RefusalReason::SessionMismatch, r#"failed session check for key "c", current session "d" != "e""#);
        assert_eq!(judge(&refused(&[gone, taken, missing]), 3, NONCE).expect("proven"), Verdict::NotOurs(1));
        // An answer to as many checks as it has, and not to a challenge of one key less.
        assert!(matches!(judge(&refused(&[gone, taken, missing]), 2, NONCE), Err(Unproven::Replayed)));
    }

    #[test]
    fn a_denial_is_neither_a_proof_nor_a_loss() {
        let denied = (0, RefusalReason::Denied, "Permission denied");
        assert!(
            matches!(judge(&refused(&[denied]), 1, NONCE), Err(Unproven::Refused(0, what)) if what == "Permission denied")
        );
    }
}
