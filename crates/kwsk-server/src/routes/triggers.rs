//! Triggers and their fire.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use kwsk_knative::ops::trigger;
use kwsk_model::trigger::TriggerPut;
use serde_json::{Map, Value};

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Document, Owned, Payload, Query, Within};
use crate::respond;

type Answer = Result<Response, Refused>;

/// `GET …/triggers`
pub(super) async fn list(app: State<Arc<App>>, within: Within, query: Query) -> Answer {
    within.must_own()?;
    let Within { caller, namespace } = within;
    let page = query.page("triggers")?;
    if query.flag("count")? {
        let total = trigger::count(&app.ops, &caller, &namespace).await?;
        return Ok(respond::count("triggers", total, page.skip));
    }
    let found = trigger::list(&app.ops, &caller, &namespace, page).await?;
    let items: Vec<Value> = found.iter().map(|found| found.entity.summary()).collect();
    Ok(respond::ok(&items))
}

/// `GET …/triggers/{name}`
pub(super) async fn get(app: State<Arc<App>>, Owned { caller, name }: Owned) -> Answer {
    let trigger = trigger::get(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&trigger.to_json()))
}

/// `PUT …/triggers/{name}`
pub(super) async fn put(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    query: Query,
    document: Document,
) -> Answer {
    let overwrite = query.flag("overwrite")?;
    let put = TriggerPut::from_json(&document.members()?)?;
    let trigger = trigger::put(&app.ops, &caller, &name, put, overwrite).await?;
    Ok(respond::ok(&trigger.to_json()))
}

/// `DELETE …/triggers/{name}`
pub(super) async fn delete(app: State<Arc<App>>, Owned { caller, name }: Owned) -> Answer {
    let trigger = trigger::delete(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&trigger.to_json()))
}

/// `POST …/triggers/{name}`: not even a record when no rule is active.
pub(super) async fn fire(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    headers: HeaderMap,
    Payload(payload): Payload,
) -> Answer {
    let fired = trigger::fire(&app.ops, &caller, &name, ow_headers(&headers), &payload).await?;
    Ok(match fired {
        Some(id) => respond::accepted(&id),
        None => respond::empty(StatusCode::NO_CONTENT),
    })
}

/// The request's headers as actions get them: names in lower case, repeated ones joined.
fn ow_headers(headers: &HeaderMap) -> Map<String, Value> {
    let joined = |name: &http::HeaderName| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.as_str().to_owned(), joined(name).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_fire() {
        let mut headers = HeaderMap::new();
        headers.append("X-Many", "a".parse().unwrap());
        headers.append("x-many", "b".parse().unwrap());
        headers.append("Authorization", "Basic x".parse().unwrap());
        let map = ow_headers(&headers);
        assert_eq!(Value::Object(map), serde_json::json!({"x-many": "a, b", "authorization": "Basic x"}));
    }
}
