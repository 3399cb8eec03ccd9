//! The whole URL table.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, put};

use crate::app::App;
use crate::error::Refused;
use crate::{extract, layers};

mod actions;
mod activations;
mod info;
mod namespaces;
mod packages;
mod rules;
mod triggers;

pub(crate) use info::about;

type Methods = MethodRouter<Arc<App>>;

/// The API: every URL, every method, everything around them.
pub fn router(app: Arc<App>) -> Router {
    let at = |path: &str| format!("/api/v1/namespaces{path}");
    // A collection answers with and without a slash at its end.
    let both = |router: Router<Arc<App>>, path: &str, methods: Methods| {
        router.route(&at(path), methods.clone()).route(&at(&format!("{path}/")), methods)
    };
    let action = || put(actions::put).get(actions::get).delete(actions::delete).post(actions::invoke);
    let package = put(packages::put).get(packages::get).delete(packages::delete);
    let trigger = put(triggers::put).get(triggers::get).delete(triggers::delete).post(triggers::fire);
    let rule = put(rules::put).get(rules::get).delete(rules::delete).post(rules::set_status);

    let mut router = Router::new()
        .route("/", get(info::system))
        .route("/ping", get(info::ping))
        .route("/invokers", get(info::invokers))
        .route("/invokers/healthy/count", get(info::healthy_invokers))
        .route("/invokers/ready", get(info::ready))
        .route("/api/v1", get(info::api))
        .route("/api/v1/", get(info::api))
        .route(&at("/{ns}/actions/{name}"), action())
        .route(&at("/{ns}/actions/{name}/"), get(actions::list_package))
        .route(&at("/{ns}/actions/{pkg}/{name}"), action())
        .route(&at("/{ns}/packages/{name}"), package)
        .route(&at("/{ns}/triggers/{name}"), trigger)
        .route(&at("/{ns}/rules/{name}"), rule)
        .route(&at("/{ns}/activations/{id}"), get(activations::get))
        .route(&at("/{ns}/activations/{id}/result"), get(activations::result))
        .route(&at("/{ns}/activations/{id}/logs"), get(activations::logs))
        .route(&at("/{ns}/limits/{*inner}"), get(namespaces::no_inner_limits));
    router = both(router, "", get(namespaces::list));
    router = both(router, "/{ns}/actions", get(actions::list));
    router = both(router, "/{ns}/packages", get(packages::list));
    router = both(router, "/{ns}/triggers", get(triggers::list));
    router = both(router, "/{ns}/rules", get(rules::list));
    router = both(router, "/{ns}/activations", get(activations::list));
    router = both(router, "/{ns}/limits", get(namespaces::limits));
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(from_fn_with_state(Arc::clone(&app), layers::edge))
        .with_state(app)
}

async fn no_route(State(app): State<Arc<App>>, request: Request) -> Refused {
    unmatched(&app, request).await
}

/// What a request gets that meets no route: below `/api/v1`, OpenWhisk asks for credentials first.
pub async fn unmatched(app: &App, request: Request) -> Refused {
    let (parts, _) = request.into_parts();
    if !parts.uri.path().starts_with("/api/v1/") && parts.uri.path() != "/api/v1" {
        return Refused::no_route();
    }
    match extract::authenticate(app, &parts.headers, &parts.extensions).await {
        Ok(_) => Refused::no_route(),
        Err(refused) => refused,
    }
}
