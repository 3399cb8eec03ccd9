//! Packages and bindings.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kwsk_knative::ops::package;
use kwsk_model::package::PackagePut;
use serde_json::Value;

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Document, Named, Owned, Query, Within};
use crate::respond;

type Answer = Result<Response, Refused>;

/// `GET …/packages`: of a foreign namespace, what it published.
pub(super) async fn list(app: State<Arc<App>>, Within { caller, namespace }: Within, query: Query) -> Answer {
    let page = query.page("packages")?;
    if query.flag("count")? {
        let total = package::count(&app.ops, &caller, &namespace).await?;
        return Ok(respond::count("packages", total, page.skip));
    }
    let found = package::list(&app.ops, &caller, &namespace, page).await?;
    let items: Vec<Value> = found.iter().map(|found| found.entity.summary()).collect();
    Ok(respond::ok(&items))
}

/// `GET …/packages/{name}`
pub(super) async fn get(app: State<Arc<App>>, Named { caller, name }: Named) -> Answer {
    let (package, actions) = package::get(&app.ops, &caller, &name).await?;
    Ok(respond::ok(&package.to_json_with_actions(&actions)))
}

/// `PUT …/packages/{name}`
pub(super) async fn put(
    app: State<Arc<App>>,
    Owned { caller, name }: Owned,
    query: Query,
    document: Document,
) -> Answer {
    let overwrite = query.flag("overwrite")?;
    let put = PackagePut::from_json(&document.members()?, name.namespace())?;
    let package = package::put(&app.ops, &caller, &name, put, overwrite).await?;
    Ok(respond::ok(&package.to_json()))
}

/// `DELETE …/packages/{name}`
pub(super) async fn delete(app: State<Arc<App>>, Owned { caller, name }: Owned, query: Query) -> Answer {
    let force = query.flag("force")?;
    let package = package::delete(&app.ops, &caller, &name, force).await?;
    Ok(respond::ok(&package.to_json()))
}
