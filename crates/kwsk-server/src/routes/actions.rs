//! Actions and their invocation.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kwsk_knative::ops::action;
use kwsk_knative::ops::invoke::{self, Invoked, Wait};
use kwsk_model::action::ActionPut;
use kwsk_model::activation::{Activation, Outcome};
use kwsk_model::limits::MAX_BLOCKING_WAIT_MS;
use kwsk_model::name::EntityName;
use serde_json::Value;

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Document, Named, Owned, Package, Payload, Query, Within};
use crate::respond;

type Answer = Result<Response, Refused>;

/// `GET …/actions`
pub(super) async fn list(app: State<Arc<App>>, within: Within, query: Query) -> Answer {
    within.must_own()?;
    listed(&app, &within, None, &query).await
}

/// `GET …/actions/{pkg}/`
pub(super) async fn list_package(
    app: State<Arc<App>>,
    within: Within,
    Package(package): Package,
    query: Query,
) -> Answer {
    listed(&app, &within, Some(&package), &query).await
}

async fn listed(app: &App, within: &Within, package: Option<&EntityName>, query: &Query) -> Answer {
    let Within { caller, namespace } = within;
    let page = query.page("actions")?;
    if query.flag("count")? {
        let total = action::count(&app.ops, caller, namespace, package).await?;
        return Ok(respond::count("actions", total, page.skip));
    }
    let found = action::list(&app.ops, caller, namespace, package, page).await?;
    let items: Vec<Value> = found.iter().map(|found| found.entity.summary()).collect();
    Ok(respond::ok(&items))
}

/// `GET …/actions/[{pkg}/]{name}`
pub(super) async fn get(app: State<Arc<App>>, named: Named, query: Query) -> Answer {
    let code = query.flag_or("code", true)?;
    let action = action::get(&app.ops, &named.caller, &named.name, code).await?;
    Ok(respond::ok(&action.to_json(code)))
}

/// `PUT …/actions/[{pkg}/]{name}`
pub(super) async fn put(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    query: Query,
    document: Document,
) -> Answer {
    let overwrite = query.flag("overwrite")?;
    let put = ActionPut::from_json(&document.members()?, &app.ops.platform.manifest, name.namespace())?;
    // It may be 50 MB, and all of it has been read.
    drop(document);
    let action = action::put(&app.ops, &caller, &name, put, overwrite).await?;
    Ok(respond::ok(&action.to_json(true)))
}

/// `DELETE …/actions/[{pkg}/]{name}`
pub(super) async fn delete(app: State<Arc<App>>, Owned { caller, name }: Owned) -> Answer {
    let action = action::delete(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&action.to_json(true)))
}

/// `POST …/actions/[{pkg}/]{name}`
pub(super) async fn invoke(
    app: State<Arc<App>>,
    named: Named,
    query: Query,
    Payload(payload): Payload,
) -> Answer {
    let wait = wait(&query)?;
    let result_only = query.flag("result")?;
    match invoke::invoke(&app.ops, &named.caller, &named.name, &payload, wait).await? {
        Invoked::Accepted(id) => Ok(respond::accepted(&id)),
        Invoked::Ended(activation) => Ok(ended(&activation, result_only)),
    }
}

/// How long the caller waits. `timeout` is checked even when nobody waits, as upstream does.
fn wait(query: &Query) -> Result<Wait, Refused> {
    let blocking = query.flag("blocking")?;
    let longest = match query.get("timeout") {
        None => Wait::LONGEST,
        Some(text) => match text.parse::<u64>() {
            Ok(ms) if (1..=MAX_BLOCKING_WAIT_MS).contains(&ms) => Wait::AtMost(Duration::from_millis(ms)),
            _ => {
                let why = format!("Timeout must be number of milliseconds up to {MAX_BLOCKING_WAIT_MS}.");
                return Err(Refused::invalid(why));
            }
        },
    };
    Ok(if blocking { longest } else { Wait::No })
}

/// The answer to a blocking invocation. An array is shown bare whatever was asked for.
fn ended(activation: &Activation, result_only: bool) -> Response {
    let status = match activation.response.outcome {
        Outcome::Success => StatusCode::OK,
        Outcome::ApplicationError | Outcome::DeveloperError => StatusCode::BAD_GATEWAY,
        Outcome::WhiskError => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let bare = activation.response.result.as_ref().filter(|result| result_only || result.is_array());
    let response = match bare {
        Some(result) => respond::json_text(status, result.get().to_owned()),
        // The logs of a sequence are the ids of its parts, which are known; those of code are still on their way.
        None if is_sequence(activation) => respond::json(status, &activation.record()),
        None => respond::json(status, &activation.record_without_logs()),
    };
    respond::with_activation(response, &activation.activation_id)
}

fn is_sequence(activation: &Activation) -> bool {
    activation.annotations.get("kind").and_then(Value::as_str) == Some("sequence")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use kwsk_model::activation::ActivationResponse;
    use kwsk_model::json::RawJson;

    fn activation(response: ActivationResponse) -> Activation {
        let value = serde_json::json!({
            "namespace": "guest", "name": "a", "version": "0.0.1", "subject": "guest",
            "activationId": "0123456789abcdef0123456789abcdef", "start": 1, "end": 2, "duration": 1,
            "response": {"statusCode": 0}, "logs": ["a line"], "annotations": [], "publish": false,
        });
        Activation { response, ..serde_json::from_value(value).unwrap() }
    }

    #[tokio::test]
    async fn answers() {
        let raw = |text: &str| RawJson::parse(text.to_owned()).unwrap();
        let success = |text: &str| ActivationResponse::success(raw(text), None);
        for (response, result_only, status, body) in [
            (success(r#"{"a":1}"#), true, 200, r#"{"a":1}"#),
            (success("[1,2]"), false, 200, "[1,2]"),
            (ActivationResponse::application_error("x"), true, 502, r#"{"error":"x"}"#),
            (ActivationResponse::developer_error("x"), true, 502, r#"{"error":"x"}"#),
            (ActivationResponse::whisk_error("x"), true, 500, r#"{"error":"x"}"#),
        ] {
            let answer = ended(&activation(response), result_only);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()["x-openwhisk-activation-id"], "0123456789abcdef0123456789abcdef");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
        }
        let answer = ended(&activation(success("{}")), false).into_body().collect().await.unwrap().to_bytes();
        let record: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(record["logs"], serde_json::json!([]));
        assert_eq!(record["response"]["status"], "success");
    }
}
