//! Records of what ran.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kwsk_knative::activations::ActivationQuery;
use kwsk_knative::ops::activation;
use kwsk_model::activation::{Activation, ActivationId, ResponseView};
use kwsk_model::name::Namespace;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Id, Query, Within};
use crate::respond;

type Answer = Result<Response, Refused>;

/// `GET …/activations`
pub(super) async fn list(app: State<Arc<App>>, within: Within, query: Query) -> Answer {
    within.must_own()?;
    let Within { caller, namespace } = within;
    let wanted = wanted(namespace, &query)?;
    let (docs, count) = (query.flag("docs")?, query.flag("count")?);
    if docs && count {
        return Err(Refused::invalid("The parameter 'docs' is not permitted with 'count'."));
    }
    if count {
        let total = activation::count(&app.ops, &caller, &wanted).await?;
        return Ok(respond::count("activations", total, wanted.skip));
    }
    let found = activation::list(&app.ops, &caller, &wanted).await?;
    if docs {
        let records: Vec<_> = found.iter().map(|activation| activation.record()).collect();
        return Ok(respond::ok(&records));
    }
    let items: Vec<Value> = found.iter().map(|activation| activation.summary()).collect();
    Ok(respond::ok(&items))
}

fn wanted(namespace: Namespace, query: &Query) -> Result<ActivationQuery, Refused> {
    let page = query.page("activations")?;
    let name = query.get("name").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if let Some(name) = &name
        && !is_filter(name)
    {
        let why = format!("Parameter may be a 'simple' name or 'package-name/simple' name: {name}");
        return Err(Refused::bad_query("name", why));
    }
    Ok(ActivationQuery {
        namespace,
        name,
        since: query.instant("since")?,
        upto: query.instant("upto")?,
        skip: page.skip,
        limit: page.limit,
    })
}

/// `a` or `pkg/a`.
fn is_filter(name: &str) -> bool {
    name.split('/').count() <= 2 && name.split('/').all(|segment| !segment.is_empty())
}

async fn found(app: &App, within: &Within, id: &str) -> Result<Arc<Activation>, Refused> {
    within.must_own()?;
    let id: ActivationId = id.parse().map_err(|error| Refused::invalid(format!("{error}")))?;
    Ok(activation::get(&app.ops, &within.caller, &within.namespace, &id).await?)
}

/// `GET …/activations/{id}`
pub(super) async fn get(app: State<Arc<App>>, within: Within, Id(id): Id) -> Answer {
    let activation = found(&app, &within, &id).await?;
    Ok(respond::ok(&activation.record()))
}

/// `GET …/activations/{id}/result`
pub(super) async fn result(app: State<Arc<App>>, within: Within, Id(id): Id) -> Answer {
    let activation = found(&app, &within, &id).await?;
    Ok(respond::ok(&ResponseView::from(&activation.response)))
}

/// `GET …/activations/{id}/logs`
pub(super) async fn logs(app: State<Arc<App>>, within: Within, Id(id): Id) -> Answer {
    let activation = found(&app, &within, &id).await?;
    Ok(respond::ok(&json!({ "logs": activation.logs })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for good in ["a", "pkg/a", "with space"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["a/b/c", "/a", "a/", "/"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
