//! Which statuses of which routes the clients of one platform have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all clients of a [`crate::TestApp`]. `Display` is one line per route and method.
#[derive(Debug, Clone, Default)]
pub struct Coverage(Arc<Mutex<BTreeMap<String, BTreeSet<u16>>>>);

impl Coverage {
    pub(crate) fn saw(&self, method: &str, path: &str, status: u16) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(format!("{} {method}", template(path))).or_default().insert(status);
    }
}

impl Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (route, statuses) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
            writeln!(f, "{route}: {}", statuses.join(" "))?;
        }
        Ok(())
    }
}

/// The route a path belongs to, names replaced; paths that are no route's count as one.
fn template(path: &str) -> String {
    let Some(rest) = path.strip_prefix("/api/v1/namespaces/") else {
        let known = ["/", "/ping", "/invokers", "/invokers/healthy/count", "/invokers/ready"];
        let api = ["/api/v1", "/api/v1/", "/api/v1/namespaces"];
        let served = known.contains(&path) || api.contains(&path);
        return if served { path.to_owned() } else { "(no route)".to_owned() };
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let shape = match segments.as_slice() {
        [""] => "/api/v1/namespaces/",
        [_, collection @ ("actions" | "packages" | "triggers" | "rules" | "activations" | "limits")] => {
            return format!("…/{collection}");
        }
        [_, collection @ ("actions" | "packages" | "triggers" | "rules" | "activations" | "limits"), ""] => {
            return format!("…/{collection}/");
        }
        [_, collection @ ("actions" | "packages" | "triggers" | "rules"), _] => {
            return format!("…/{collection}/{{name}}");
        }
        [_, "actions", _, ""] => "…/actions/{package}/",
        [_, "actions", _, _] => "…/actions/{package}/{name}",
        [_, "activations", _] => "…/activations/{id}",
        [_, "activations", _, part @ ("result" | "logs")] => return format!("…/activations/{{id}}/{part}"),
        [_, "limits", ..] => "…/limits/{inner}",
        _ => "(no route)",
    };
    shape.to_owned()
}
