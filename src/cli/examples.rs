//! The examples at the end of each command's long help: shell scripts, with an empty line between those that have nothing to do
//! with each other, and no line so long that a terminal of 80 columns would break it.

pub(super) const RUN: &str = "\
Examples:
  # on the first machine that gets there, and on no other at the same time
  consul-lock run cron/backup -- backup --full
  # give up at once if somebody else does it
  consul-lock run -n cron/report -c 'make report && make publish'
  # wait for ten minutes at most
  consul-lock run -w 10m deploy/web -- ./deploy.sh
  # both, or wait
  consul-lock run db/eu db/us -- ./migrate
  # on this machine alone, without Consul
  consul-lock run --local cron/backup -- backup";

pub(super) const ACQUIRE: &str = r#"Examples:
  # in a script under set -e
  lock=$(consul-lock acquire --export --hold --pid $$ deploy/web)
  eval "$lock"
  trap 'consul-lock release' EXIT

  # in steps that share nothing else
  session=$(consul-lock acquire --ttl 10m -w 1h deploy/web)
  consul-lock renew deploy/web --session "$session"
  consul-lock release deploy/web --session "$session""#;

pub(super) const RENEW: &str = r#"Examples:
  # in a script that has read what acquire --export prints
  consul-lock renew || exit

  # in a step that knows the session
  consul-lock renew deploy/web --session "$session""#;

pub(super) const RELEASE: &str = r#"Examples:
  # in a script that has read what acquire --export prints
  trap 'consul-lock release' EXIT

  # in a step that knows the session
  consul-lock release deploy/web --session "$session""#;

pub(super) const STATUS: &str = r#"Exit code: 0 if somebody holds it, 1 if it is free.

Examples:
  # who holds it, and who waits
  consul-lock status deploy/web
  # the same whenever it changes
  consul-lock status --watch deploy/web
  # for scripts: held, free, or not known
  consul-lock status deploy/web >/dev/null; [ $? -ne 1 ] || echo "is free"
  consul-lock status --json deploy/web | jq -r '.holders[].host'"#;

pub(super) const LIST: &str = r#"Examples:
  # every lock that the token may see
  consul-lock list
  # a line each, with tabs where it is piped
  consul-lock list cron/ | cut -f1,3
  consul-lock list --json deploy/ | jq -r 'select(.held) | .key'"#;

pub(super) const WAIT: &str = r#"Examples:
  consul-lock wait deploy/web && echo "nobody deploys any more"
  # 75 if it is still held then
  consul-lock wait -w 10m db/migration || exit

By the time that this returns somebody else may have the lock: what nobody else
may do meanwhile is for run."#;

pub(super) const EVICT: &str = r#"Examples:
  # says who it is, and asks
  consul-lock evict deploy/web

  # that one, and nobody who came after it
  session=$(consul-lock status --json deploy/web | jq -r '.holders[0].session')
  consul-lock evict --yes --session "$session" deploy/web"#;

pub(super) const DOCTOR: &str = "\
Examples:
  # address, certificates, leader, token
  consul-lock doctor
  # and the ACL rules for this lock, to paste where one is missing
  consul-lock doctor cron/backup
  # for programs
  consul-lock doctor --json cron/backup";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cd ~/.local/share/bash-completion/completions
  consul-lock completions bash >consul-lock

  # in a folder of $fpath
  consul-lock completions zsh >~/.zfunc/_consul-lock

  cd ~/.config/fish/completions
  consul-lock completions fish >consul-lock.fish";

pub(super) const MAN: &str = "\
Examples:
  consul-lock man | man -l -
  consul-lock man run | man -l -";
