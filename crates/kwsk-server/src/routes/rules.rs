//! Rules.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kwsk_knative::ops::rule;
use kwsk_model::rule::{RulePut, RuleStatus};
use serde_json::Value;

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Document, Owned, Query, Within};
use crate::respond;

type Answer = Result<Response, Refused>;

/// `GET …/rules`: without their status, as upstream.
pub(super) async fn list(app: State<Arc<App>>, within: Within, query: Query) -> Answer {
    within.must_own()?;
    let Within { caller, namespace } = within;
    let page = query.page("rules")?;
    if query.flag("count")? {
        let total = rule::count(&app.ops, &caller, &namespace).await?;
        return Ok(respond::count("rules", total, page.skip));
    }
    let found = rule::list(&app.ops, &caller, &namespace, page).await?;
    let items: Vec<Value> = found.iter().map(|found| found.entity.summary()).collect();
    Ok(respond::ok(&items))
}

/// `GET …/rules/{name}`
pub(super) async fn get(app: State<Arc<App>>, Owned { caller, name }: Owned) -> Answer {
    let rule = rule::get(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&rule.to_json()))
}

/// `PUT …/rules/{name}`
pub(super) async fn put(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    query: Query,
    document: Document,
) -> Answer {
    let overwrite = query.flag("overwrite")?;
    let put = RulePut::from_json(&document.members()?, name.namespace())?;
    let rule = rule::put(&app.ops, &caller, &name, put, overwrite).await?;
    Ok(respond::ok(&rule.to_json()))
}

/// `POST …/rules/{name}`: enables or disables.
pub(super) async fn set_status(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    document: Document,
) -> Answer {
    let status = RuleStatus::from_json(&document.members()?)?;
    rule::set_status(&app.ops, &caller, &name, status).await?;
    Ok(respond::text("OK"))
}

/// `DELETE …/rules/{name}`
pub(super) async fn delete(app: State<Arc<App>>, Owned { caller, name }: Owned) -> Answer {
    let rule = rule::delete(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&rule.to_json()))
}
