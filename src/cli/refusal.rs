//! A refusal: what cannot be done, found before anything was forked, connected or locked, or told by Consul.

use consul_lock::consul::{ConfigError, Error as ConsulError};
use consul_lock::lock;

use super::exit::{Codes, code};
use super::program::NotRunnable;
use crate::local;
use crate::run::Class;

/// Something that cannot be done, found before anything was done.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Exit code.
    pub(crate) code: u8,
    /// What, and the mend.
    pub(crate) message: String,
}

impl Refusal {
    /// Exit code 64.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self { code: code::USAGE, message: message.to_string() }
    }

    /// Exit code 78.
    pub(crate) fn configuration(message: impl ToString) -> Self {
        Self { code: code::CONFIGURATION, message: message.to_string() }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::configuration(error) }
    }
}

impl From<NotRunnable> for Refusal {
    fn from(error: NotRunnable) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<lock::Error> for Refusal {
    fn from(error: lock::Error) -> Self {
        Self { code: Codes::default().of(Class::from(&error)), message: error.to_string() }
    }
}

impl From<ConsulError> for Refusal {
    fn from(error: ConsulError) -> Self {
        Self { code: Codes::default().of(Class::from(&error)), message: error.to_string() }
    }
}

impl From<local::Error> for Refusal {
    fn from(error: local::Error) -> Self {
        if error.is_config() { Self::configuration(error) } else { Self::usage(error) }
    }
}
