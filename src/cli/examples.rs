//! The examples at the end of each command's long help, where they take no more than a few lines.

pub(super) const RUN: &str = "\
Examples:
  # on the first machine that gets there, and on no other at the same time
  consul-lock run cron/backup -- /usr/local/bin/backup --full
  consul-lock run -n cron/report -c 'make report && make publish'    # give up at once if somebody else does it
  consul-lock run -w 10m deploy/web -- ./deploy.sh
  consul-lock run db/eu db/us -- ./migrate                           # both, or wait
  consul-lock run --local cron/backup -- backup                      # this machine alone, no Consul";

pub(super) const DOCTOR: &str = "\
Examples:
  consul-lock doctor                      # address, certificates, leader, token
  consul-lock doctor cron/backup          # and the ACL rules for this lock, to paste where one is missing
  consul-lock doctor --json cron/backup   # for programs";

pub(super) const STATUS: &str = "\
Exit code: 0 if somebody holds it, 1 if it is free.

Examples:
  consul-lock status deploy/web                       # who holds it, who waits
  consul-lock status deploy/web >/dev/null; [ $? -ne 1 ] || echo \"nobody deploys\"
  consul-lock status --watch deploy/web               # again whenever it changes
  consul-lock status --json deploy/web | jq -r '.holders[].host'";

pub(super) const LIST: &str = "\
Examples:
  consul-lock list                                    # every lock that the token may see
  consul-lock list cron/ | cut -f1,3                  # a line each, with tabs where it is piped
  consul-lock list --json deploy/ | jq -r 'select(.held) | .key'";

pub(super) const WAIT: &str = "\
Examples:
  consul-lock wait deploy/web && echo \"nobody deploys any more\"
  consul-lock wait -w 10m db/migration || exit        # 75 if it is still held then

By the time that this returns somebody else may have the lock: what nobody else may do\nmeanwhile is for run.";

pub(super) const RENEW: &str = "\
Examples:
  consul-lock renew || exit           # in a script that has read what acquire --export prints
  consul-lock renew deploy/web --session \"$session\"";

pub(super) const RELEASE: &str = "\
Examples:
  trap 'consul-lock release' EXIT     # in a script that has read what acquire --export prints
  consul-lock release deploy/web --session \"$session\"";

pub(super) const EVICT: &str = "\
Examples:
  consul-lock evict deploy/web                        # says who it is, and asks
  session=$(consul-lock status --json deploy/web | jq -r '.holders[0].session')
  consul-lock evict --yes --session \"$session\" deploy/web   # that one, and nobody who came after it";
