//! Links the program to a fixed address on the one platform where that was measured: without the relocations that another
//! address needs at every start a short run is 5 per cent shorter (docs/profile.md).

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo:rustc-link-arg-bin=consul-lock=-no-pie");
    }
}
