//! What `connect` and `pipe` lead to: `RESOURCE[:PORT]`.

use std::str::FromStr;

use vouchsafe_agent::connect::Target;
use vouchsafe_agent::device::Device;
use vouchsafe_agent::tunnel::Port;
use vouchsafe_wire::authority::{Authority, AuthorityError};

use crate::call::host_of;
use crate::error::VerbError;

/// A resource by its name or its whole host name, and a port when one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    host: String,
    port: Option<u16>,
}

impl FromStr for Named {
    type Err = AuthorityError;
    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let Authority { host, port } = Authority::parse(text)?;
        Ok(Self { host, port })
    }
}

impl Named {
    /// What to ask the gateway for. Without a port it is the resource's own, which the gateway knows.
    ///
    /// # Errors
    /// [`VerbError`] when the name is of another installation.
    pub(crate) fn resolve(&self, device: &Device) -> Result<Target, VerbError> {
        let host = host_of(device, &self.host);
        if device.domain().label_of(&host).is_none() {
            return Err(VerbError::usage(format!("`{}` is not a name under `{}`", self.host, device.domain()))
                .hint("name the resource alone, such as `wiki`"));
        }
        Ok(Target { host, port: self.port.map_or(Port::Any, Port::Number) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_port() {
        assert_eq!("db:5432".parse(), Ok(Named { host: "db".into(), port: Some(5432) }));
        assert_eq!("db".parse(), Ok(Named { host: "db".into(), port: None }));
        for bad in ["", "db:", "10.0.0.1:80", "a@b:1", "db:70000"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
