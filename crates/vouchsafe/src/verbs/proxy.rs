//! `proxy`: one local proxy for browsers and tools.

use std::net::SocketAddr;
use std::sync::Arc;

use vouchsafe_agent::proxy::{MAX_CONNECTIONS, serve};
use vouchsafe_agent::tunnel::Tunnels;
use vouchsafe_model::name::BaseDomain;

use super::connect::{Listen, listen};
use super::login::stepping_up;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;

/// Runs a local HTTP and SOCKS5 proxy for browsers and tools.
///
/// Names under the base domain go through this device's tunnel, so that each request proves user
/// and device; all else is refused. Only programs of your own user on this machine are let in.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  vouchsafe proxy\n  curl --proxy http://127.0.0.1:1080 https://wiki.corp.example/\n  chromium --proxy-pac-url=http://127.0.0.1:1080/proxy.pac"
)]
pub(crate) struct Args {
    /// Local port, or loopback address and port.
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "127.0.0.1:1080")]
    listen: Listen,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let device = call.device()?;
    let listener = listen(args.listen, MAX_CONNECTIONS).await?;
    let address = listener.address();
    let pac = format!("http://{address}/proxy.pac");
    let domain = device.domain().clone();
    device.keep_fresh(&call.tasks);
    let step_up = stepping_up(call, &device);
    let tunnels =
        Arc::new(Tunnels::new(device, call.tasks.clone()).with_step_up(step_up).with_warned(Some(call.warned())));
    call.tasks.spawn("local proxy", serve(listener, tunnels, call.report(), call.tasks.clone()));
    let out = &call.out;
    if out.is_json() {
        out.json(&serde_json::json!({ "listening": address.to_string(), "pac": pac, "domain": domain.as_str() }))?;
    } else {
        out.line(&format!("{} → *.{domain}", out.paint(Style::Bold, &address.to_string())))?;
        out.facts(&[
            ("HTTP", format!("http://{address}")),
            ("SOCKS5", format!("socks5h://{address}")),
            ("browser", out.paint(Style::Accent, &for_browsers(&domain, address, &pac))),
        ])?;
        out.note(&out.paint_error(Style::Dim, "Ctrl-C ends it."));
    }
    call.serve_until_interrupted().await?;
    Ok(Exit::Ok)
}

/// What makes a browser use the proxy. Chromium sends names under `.localhost`, where trial
/// installations live, past every PAC file, and past a proxy unless it is told not to.
fn for_browsers(domain: &BaseDomain, address: SocketAddr, pac: &str) -> String {
    match domain.as_str().rsplit('.').next() {
        Some("localhost") => {
            format!("chromium --proxy-server=http://{address} --proxy-bypass-list='<-loopback>'")
        }
        _ => pac.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_localhost_want_more_than_a_pac_file() {
        let address = "127.0.0.1:1080".parse().unwrap();
        let shown = |domain: &str| for_browsers(&BaseDomain::parse(domain).unwrap(), address, "http://pac/");
        assert!(shown("vouchsafe.localhost").contains("--proxy-bypass-list='<-loopback>'"));
        assert_eq!(shown("corp.example"), "http://pac/");
        assert_eq!(shown("localhost.example"), "http://pac/");
    }
}
